"""Splits a profile into loops: cycles of blocks and how often each is passed.

Executions of blocks and edges are a flow. The hottest block's most frequent successors are followed until a block comes again:
that is a cycle. It is taken out as often as its rarest edge was executed, and so on with what is left. So an inner loop is a
cycle of its own, and the code around it is part of a longer one, which passes the inner loop's blocks once. Every execution of a
block is in exactly one path; what closes no cycle is left as single blocks.
"""
import heapq
from dataclasses import dataclass

# A longer path ends without a cycle, in instructions.
LONGEST = 4000


@dataclass(frozen=True)
class Path:
    """Blocks in the order of their execution. `again`: the last is followed by the first."""
    blocks: tuple
    times: int
    again: bool

    def words(self):
        return tuple(w for b in self.blocks for w in b.words)


def split(profile, share=0.995):
    """Paths that hold this share of the executed instructions, hottest first by instructions, and the share they really hold."""
    left = dict(profile.blocks)
    out = {}
    for (a, b), times in profile.edges.items():
        out.setdefault(a, {})[b] = times
    heap = [(-times * len(b.words), n, b) for n, (b, times) in enumerate(left.items())]
    heapq.heapify(heap)
    everything = sum(-h[0] for h in heap)
    paths, found = [], 0
    while heap and found < share * everything:
        old, n, block = heapq.heappop(heap)
        now = left[block] * len(block.words)
        if now <= 0:
            continue
        if now != -old:
            heapq.heappush(heap, (-now, n, block))
            continue
        path = cycle(block, out) or Path((block,), left[block], False)
        take(path, left, out)
        found += path.times * len(path.words())
        paths.append(path)
        if left[block] > 0:
            heapq.heappush(heap, (-left[block] * len(block.words), n, block))
    paths.sort(key=lambda p: -p.times * len(p.words()))
    return paths, found / max(1, everything)


def cycle(start, out):
    """The cycle that the most frequent edges lead into; None if they end or go too far."""
    walk, at, length = [start], {start: 0}, len(start.words)
    while length <= LONGEST:
        edges = out.get(walk[-1])
        if not edges:
            return None
        following = walk[-1] if walk[-1] in edges else max(edges, key=lambda b: (edges[b], -b.address))
        if following in at:
            blocks = tuple(walk[at[following]:])
            times = min(out[a][b] for a, b in zip(blocks, blocks[1:] + blocks[:1]))
            return Path(blocks, times, True)
        at[following] = len(walk)
        walk.append(following)
        length += len(following.words)
    return None


def take(path, left, out):
    """Takes a path's executions out of those that are left."""
    for block in path.blocks:
        left[block] -= path.times
    if not path.again:
        out.pop(path.blocks[0], None)
        return
    for a, b in zip(path.blocks, path.blocks[1:] + path.blocks[:1]):
        out[a][b] -= path.times
        if not out[a][b]:
            del out[a][b]
