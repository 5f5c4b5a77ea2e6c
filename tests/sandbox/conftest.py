"""Fixtures that several modules share; a module's own of the same name comes first."""

from cluster_support import base, kubeconfig
from seldon_cluster import cluster, digest, sandbox

__all__ = ["base", "cluster", "digest", "kubeconfig", "sandbox"]
