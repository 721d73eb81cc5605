"""What trainings will take: a probe of this machine, simulated runs of a study, and plans for a cluster."""
