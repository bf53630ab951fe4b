#!/bin/sh
# weak_symbols.sh OBJECT...: fails when an object compiled for a wide machine defines a weak symbol,
# that is an inline function. The linker keeps one copy of such a function for the whole program; if
# it keeps this one, older machines crash in code that has nothing to do with it.
status=0
for object in "$@"; do
  case $object in */avx*.cc.o) ;; *) continue ;; esac
  seen=1
  weak=$(nm -C --defined-only "$object" | awk '$2 ~ /^[WVu]$/')
  if [ -n "$weak" ]; then
    echo "$object defines weak symbols:"
    echo "$weak"
    status=1
  fi
done
[ -n "$seen" ] || { echo "no avx*.cc.o among: $*"; status=1; }
exit $status
