"""How the built-in model `garments` was trained, on Fashion-MNIST. Not part of the wheel."""
