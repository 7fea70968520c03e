#!/usr/bin/env bash
# What pip can't bring: a C++20 compiler, Python's headers and venv, and the C++ libraries that are
# otherwise fetched. Root on Debian or Ubuntu gets them; anyone else is told what is missing.
set -euo pipefail

packages=()
command -v g++ > /dev/null || packages+=(g++)
command -v git > /dev/null || packages+=(git)
python=${PYTHON:-python3}
command -v "$python" > /dev/null || packages+=(python3)
"$python" -c 'import ensurepip, venv' 2> /dev/null || packages+=(python3-venv)
"$python" - 2> /dev/null <<'END' || packages+=(python3-dev)
import os, sysconfig
raise SystemExit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))
END
header() { echo "#include <$1>" | g++ -std=c++20 -fsyntax-only -x c++ - 2> /dev/null; }
if command -v g++ > /dev/null; then
  header nlohmann/json.hpp || packages+=(nlohmann-json3-dev)
  header gtest/gtest.h || packages+=(libgtest-dev)
  header_c() { printf '#include <stdio.h>\n#include <%s>\n' "$1" | g++ -fsyntax-only -x c++ - 2> /dev/null; }
  header_c jpeglib.h || packages+=(libjpeg-dev)  # for examples/
  header_c png.h || packages+=(libpng-dev)
else
  packages+=(nlohmann-json3-dev libgtest-dev libjpeg-dev libpng-dev)
fi

[ ${#packages[@]} -eq 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
  echo "installing ${packages[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${packages[@]}" > /dev/null
else
  echo "to be installed by an administrator, or fetched by the build where it can: ${packages[*]}" >&2
fi
