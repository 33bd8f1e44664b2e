"""The contract: ClusterStack and StackLayer, their conditions, and the CRDs generated from them."""
