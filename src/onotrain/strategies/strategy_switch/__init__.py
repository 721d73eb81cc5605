"""Strategy-Switch: all-reduce first, a parameter server once the loss is stable."""
