#ifndef TOCSIN_CNGHTTP2_SHIM_H
#define TOCSIN_CNGHTTP2_SHIM_H

// Swift imports the whole API of nghttp2 1.52 as it is (no variadic function, no macro with a value that is not also an enum
// constant), so there is no inline function here. The file exists because a module map needs a header of its own: the system one
// stands at a different place on each system.
#include <nghttp2/nghttp2.h>

#endif
