include(GNUInstallDirs)
get_property(programs GLOBAL PROPERTY LUKV_PROGRAMS)
if(programs)
  install(TARGETS ${programs} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(DIRECTORY proto/lukv DESTINATION ${CMAKE_INSTALL_DATADIR}/lukv/proto FILES_MATCHING PATTERN "*.proto")

# lukv_share(FOLDER NAME): the files of FOLDER are share/lukv/NAME, where programs look for them (base/installation.h):
# in the build folder as in an installation.
function(lukv_share folder name)
  file(GLOB_RECURSE files RELATIVE ${PROJECT_SOURCE_DIR}/${folder} CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*)
  foreach(file IN LISTS files)
    configure_file(${PROJECT_SOURCE_DIR}/${folder}/${file} ${PROJECT_BINARY_DIR}/share/lukv/${name}/${file} COPYONLY)
  endforeach()
  install(DIRECTORY ${folder}/ DESTINATION ${CMAKE_INSTALL_DATADIR}/lukv/${name})
endfunction()
lukv_share(tools/profile/data calibration)
lukv_share(tools/eval/data eval)
lukv_share(deploy/profiles profiles)
