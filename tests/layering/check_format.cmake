# Fails when a source file is not as .clang-format says; names the files.
set(sources)
foreach(module proto store solver daemon client tests)
  file(GLOB_RECURSE files ${ROOT}/${module}/*.h ${ROOT}/${module}/*.cc)
  list(APPEND sources ${files})
endforeach()
execute_process(COMMAND ${CLANG_FORMAT} --dry-run -Werror ${sources}
  RESULT_VARIABLE result ERROR_VARIABLE errors)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "run clang-format -i on these files:\n${errors}")
endif()
