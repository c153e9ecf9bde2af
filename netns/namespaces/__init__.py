"""The backend whose nodes are network namespaces: the network, the lab, up and down, status, doctor."""
