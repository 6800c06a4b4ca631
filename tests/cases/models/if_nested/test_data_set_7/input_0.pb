BxJUD¾ÿ%Z?Gø
=ïEa<