"""Parameter server: some ranks hold and update the parameters, the others compute gradients."""
