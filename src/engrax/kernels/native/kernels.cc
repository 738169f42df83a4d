#include "kernels.inc"
#include "entries.inc"
#include "gradients.inc"
#include "lists.inc"
#include "activations.inc"
#include "ahead.inc"
#include "back.inc"

namespace engrax::ENGRAX_TARGET {
#define ENGRAX_INSTANTIATE(T)                                                               \
  template void rows<T>(const T*, const T*, T*, int64_t, int64_t, int64_t, int64_t);        \
  template void columns<T>(const T*, const T*, T*, int64_t, int64_t, int64_t, int64_t);     \
  template bool list<T>(const T*, int64_t, int64_t, int64_t, int32_t*, int32_t*);           \
  template void weighted<T>(const T*, const T*, T*, int64_t, int64_t, int64_t, int64_t, int64_t); \
  template void ahead<T>(const Component<T>&, int64_t, int64_t);                            \
  template void back<T>(const Component<T>&, int64_t, int64_t, T* const*);
ENGRAX_INSTANTIATE(float)
ENGRAX_INSTANTIATE(double)
}  // namespace engrax::ENGRAX_TARGET
