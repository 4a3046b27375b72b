"""What the blocks of the papers (ops.py) are made of: convolutions, normalisation, dropout."""
