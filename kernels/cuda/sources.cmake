# Of the CUDA backend: what nvcc compiles for devices and g++ for the emulator, and its host side.
set(LUKV_CUDA_KERNELS
  rms_norm.cu)
set(LUKV_CUDA_HOST
  op_context.cc)
