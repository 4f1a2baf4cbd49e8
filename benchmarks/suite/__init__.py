"""The benchmark suite behind `make bench`: the machine's roofline, then streamrnn beside its peers."""
