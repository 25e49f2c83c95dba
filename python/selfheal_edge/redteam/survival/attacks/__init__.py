"""The attacks, one file each; `registry` lists them."""
