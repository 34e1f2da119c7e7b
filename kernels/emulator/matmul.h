// Products of matrices for the emulated cuBLASLt.
#pragma once

#include <cstdint>

namespace lukv::emulator {

// Matrices are stored by columns, as BLAS does: element (r, c) is at data[r + c * ld].
struct Operand {
  const void* data = nullptr;
  int64_t ld = 0;
  bool bf16 = false;  // Else float.
  bool transposed = false;
};

struct Product {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  Operand a;  // m x k, or k x m transposed
  Operand b;  // k x n, or n x k transposed
  float alpha = 1;
  float beta = 0;
  const void* c = nullptr;  // m x n; not read where beta is 0
  int64_t ldc = 0;
  void* d = nullptr;  // m x n; may be c
  int64_t ldd = 0;
  bool out_bf16 = false;  // c and d; else float.
};

// d = alpha a b + beta c. An element is a sum over k in float whose order depends on k alone. One thread at a time.
void Multiply(const Product& product);

}  // namespace lukv::emulator
