"""What happens meanwhile: what the box, the servers and the kernels say, whoever does it to them."""
