"""l4lab: a lab of network namespaces around the box: clients, a router, real web servers."""
