"""What the steps, the model server and the operator agree on. Standard library only: it is in every image."""
