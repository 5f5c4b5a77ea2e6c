"""The KServe backend."""
