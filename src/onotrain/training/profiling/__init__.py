"""A trace of all ranks on one clock: what each did in some steps, for Perfetto and chrome://tracing."""
