// Asks for the line of the cache that holds the address, to be written soon. The address need not be a good one.
static inline void tocsin_prefetch(const void *address) {
    __builtin_prefetch(address, 1, 3);
}
