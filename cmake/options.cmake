option(LUKV_BUILD_TESTS "Build the tests" ON)
option(LUKV_WARNINGS_AS_ERRORS "Treat compiler warnings as errors" ON)
set(LUKV_SANITIZE "" CACHE STRING "Value for -fsanitize=, empty for none")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

find_program(LUKV_CCACHE ccache)
if(LUKV_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${LUKV_CCACHE})
endif()

# Warnings belong to our own targets alone (see lukv_target in targets.cmake), never to generated code.
set(LUKV_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor
    -Wno-missing-field-initializers)  # Designated initialisers leave members at their defaults on purpose.
if(LUKV_WARNINGS_AS_ERRORS)
  list(APPEND LUKV_WARNINGS -Werror)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports false positives of these two inside libstdc++ and Highway at -O2/-O3.
  list(APPEND LUKV_WARNINGS -Wno-maybe-uninitialized -Wno-stringop-overflow -Wno-restrict)
endif()

# The libraries are instrumented for the fuzzer, and its main function is linked to the targets of tests/fuzz alone.
option(LUKV_FUZZERS "Build the fuzz targets of tests/fuzz (needs clang)" OFF)
if(LUKV_FUZZERS)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "LUKV_FUZZERS needs clang; the preset fuzz chooses it")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

if(LUKV_SANITIZE)
  add_compile_options(-fsanitize=${LUKV_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -g1)
  add_link_options(-fsanitize=${LUKV_SANITIZE})
endif()
