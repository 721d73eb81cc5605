"""All that speaks MPI: the job's ranks, agreement on failures, memory shared by a node."""
