# What x86 CPUs tell about themselves, where the C compiler can ask them; 0 otherwise.

cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__GNUC__)
    #include <cpuid.h>

    static unsigned scalargrad_cpuid(unsigned leaf, unsigned part, int which) {
        unsigned r[4];
        return __get_cpuid_count(leaf, part, r, r + 1, r + 2, r + 3) ? r[which] : 0;
    }

    static unsigned scalargrad_saved(void) {
        unsigned low, high;
        if (!(scalargrad_cpuid(1, 0, 2) & bit_OSXSAVE)) return 0;
        __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        return low;
    }
    #else
    static unsigned scalargrad_cpuid(unsigned leaf, unsigned part, int which) { return 0; }
    static unsigned scalargrad_saved(void) { return 0; }
    #endif
    """
    # A register (EAX, EBX, ECX, EDX) after CPUID; and which registers the system saves.
    unsigned cpuid "scalargrad_cpuid" (unsigned leaf, unsigned part, int which)
    unsigned saved "scalargrad_saved" ()
