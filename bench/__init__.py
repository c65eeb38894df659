"""The benchmark: SnackBase beside PocketBase and a bare C server (docs/reference/benchmarks.md)."""
