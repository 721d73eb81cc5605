"""The declarations of vectors.h for Cython."""

cdef extern from "vectors.h" nogil:
    int VECTOR_BYTES
    void* vector_boundary(void* p)
    bint can_stream(const void* p, size_t size)
    void stream(const void* x, void* y, size_t size)
    void end_of_stream()
    unsigned flush_subnormals()
    void restore_rounding(unsigned before)
