# lukv_library(NAME SOURCES a.cc ... DEPS x ...): a static library with the project's warnings; includes are
# rooted at the repository ("engine/kv/page_pool.h").
function(lukv_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
  target_compile_options(${name} PRIVATE ${LUKV_WARNINGS})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS})
endfunction()

# lukv_program(NAME SOURCES a.cc ... DEPS x ...): an installed program.
function(lukv_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
  target_compile_options(${name} PRIVATE ${LUKV_WARNINGS})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
  set_property(GLOBAL APPEND PROPERTY LUKV_PROGRAMS ${name})
endfunction()

# lukv_test(NAME [LABELS unit|conformance|model|e2e ...] SOURCES a_test.cc ... DEPS x ...): one GoogleTest binary,
# one ctest entry. Tests read inputs from tests/ through the macro LUKV_TEST_DATA. Default label: unit.
function(lukv_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "LABELS;SOURCES;DEPS" ${ARGN})
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 600)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
  # Test data is full of harmless narrowing (std::mt19937 gives 64-bit values).
  target_compile_options(${name} PRIVATE ${LUKV_WARNINGS} -Wno-conversion)
  target_compile_definitions(${name} PRIVATE LUKV_TEST_DATA="${PROJECT_SOURCE_DIR}/tests")
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name})
  # Tests have threads of their own; those on the emulated device, which have one, run side by side (ctest -j).
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT} PROCESSORS 2)
  if("unit" IN_LIST ARG_LABELS OR "conformance" IN_LIST ARG_LABELS)
    set_property(GLOBAL APPEND PROPERTY LUKV_SANITIZED_TESTS ${name})
  endif()
endfunction()

# lukv_emulated_test(NAME [EXCEPT PATTERN] [LAUNCHES]): runs a test that takes its device from
# tests/engine/test_backend.h or the conformance fixture on the emulated CUDA device too, where there is one; without the
# cases that match the pattern. LAUNCHES: what it launches is looked at by the test cuda_figures.
function(lukv_emulated_test name)
  cmake_parse_arguments(ARG "LAUNCHES" "EXCEPT" "" ${ARGN})
  if(NOT TARGET lukv_cuda_emulated)
    return()
  endif()
  add_dependencies(${name} lukv_cuda_emulated)
  add_test(NAME ${name}_cuda_emulated COMMAND ${name} "--gtest_filter=-${ARG_EXCEPT}")
  get_test_property(${name} LABELS labels)
  set(environment LUKV_CUDA_LIBRARY=$<TARGET_FILE:lukv_cuda_emulated>)
  if(ARG_LAUNCHES)
    list(APPEND environment LUKV_EMULATOR_LAUNCHES=${CMAKE_BINARY_DIR}/launches.txt)
    set_tests_properties(${name}_cuda_emulated PROPERTIES
      FIXTURES_REQUIRED cuda_no_launches FIXTURES_SETUP cuda_launches)
  endif()
  set_tests_properties(${name}_cuda_emulated PROPERTIES
    LABELS "${labels};emulated" TIMEOUT 900 PROCESSORS 1 ENVIRONMENT "${environment}")
endfunction()
