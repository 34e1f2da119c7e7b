#!/bin/sh
# Runs a compiler and keeps what ptxas says of the kernels in OBJECT.ptxas (read by tools/cuda-figures.py); everything
# else that it says passes through. It must stand before ccache, which replays messages of an earlier run.
# usage: keep-ptxas.sh COMPILER... -o OBJECT ...
object=
previous=
for argument; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
[ -n "$object" ] || exec "$@"
messages=$object.ptxas.messages
"$@" 2>"$messages"
code=$?
said='^ptxas info|^    [0-9]+ bytes stack frame'
grep -E "$said" "$messages" >"$object.ptxas"
grep -Ev "$said" "$messages" >&2
rm -f "$messages"
exit $code
