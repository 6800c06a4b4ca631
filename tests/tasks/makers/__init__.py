"""One module a task: `make(sources, size)` returns a `task.Task`. Sizes and seeds are constants of the module."""
