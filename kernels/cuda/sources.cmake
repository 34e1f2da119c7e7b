# Of the CUDA backend: what nvcc compiles for devices and g++ for the emulator, and its host side.
set(LUKV_CUDA_KERNELS
  quantised_linear.cu
  rms_norm.cu
  small_ops.cu)
set(LUKV_CUDA_HOST
  cuda_backend.cc
  gemm.cc
  graphs.cc
  linear.cc
  op_context.cc
  status.cc)
