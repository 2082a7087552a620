#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# check-style.sh - the rules of CONTRIBUTING.md that a machine can check.
# Reads the work tree only. `make check-style` runs it, with CC, CFLAGS,
# CLANG and BPFFLAGS set; the last line is "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1
export LC_ALL=C

# Sources without a unit test of their own, and what tests them instead.
declare -A UNTESTED=(
	[realpeerd]='a main: tests/e2e'
	[realpeerctl]='a main: tests/e2e'
	[daemon_setup]='of the same main: tests/e2e/test_reload.py'
	[daemon_verbs]='of the same main: tests/e2e/test_commands.py'
	[datapath_attach]='needs all of the datapath: tests/bpf/test_datapath.c'
	[datapath_handshakes]='likewise, and tests/e2e/test_inline_load.py'
	[datapath_maps]='likewise'
	[datapath_memory]='likewise'
	[datapath_probe]='likewise'
	[datapath_settings]='likewise'
	[datapath_table]='likewise'
	[datapath_upkeep]='likewise, and tests/e2e/test_inline_header.py'
	[handover]='needs the kernel to hand over: tests/e2e/test_inline_header.py'
)

passed=0 failed=0 skipped=0

# check NAME FUNCTION: the function prints one line for each violation.
check() {
	local output
	output=$("$2" 2>&1)
	if [ -z "$output" ]; then
		passed=$((passed + 1))
	else
		printf 'FAILED  %s\n%s\n' "$1" "$output"
		failed=$((failed + 1))
	fi
}

# check_with TOOL NAME FUNCTION: skipped where the tool is not installed.
check_with() {
	if command -v "$1" >/dev/null; then
		check "$2" "$3"
	else
		printf 'SKIPPED %s: no %s\n' "$2" "$1"
		skipped=$((skipped + 1))
	fi
}

list_files() {
	git ls-files -co --exclude-standard 2>/dev/null ||
		find . -path ./build -prune -o -path ./.git -prune -o \
			-type f -printf '%P\n'
}

text=() c=() shell=() python=() man=() doc=()
while IFS= read -r file; do
	# listed by git, but deleted; or binary test data
	if [ ! -s "$file" ] || ! grep -qI '' "$file"; then
		continue
	fi
	text+=("$file")
	case $file in
	*.c | *.h) c+=("$file") ;;
	*.sh | .ci/run) shell+=("$file") ;;
	*.py) python+=("$file") ;;
	*.md) doc+=("$file") ;;
	user/man/*.[1-9]) man+=("$file") ;;
	*)
		case $(head -n 1 "$file") in
		'#!'*sh) shell+=("$file") ;;
		'#!'*python*) python+=("$file") ;;
		esac
		;;
	esac
done < <(list_files | sort)
code=("${c[@]}" "${shell[@]}" "${python[@]}" Makefile)

format() {
	for file in "${c[@]}"; do
		clang-format "$file" | cmp -s - "$file" ||
			echo "$file: run clang-format -i"
	done
}

white_space() {
	grep -nE '[[:blank:]]+$' "${text[@]}"
	grep -ln $'\r' "${text[@]}"
	for file in "${text[@]}"; do
		[ -z "$(tail -c 1 "$file")" ] || echo "$file: no newline at end"
	done
}

line_length() {
	for file in "${code[@]}"; do
		expand -t 8 "$file" | LC_ALL=C.UTF-8 grep -nE '^.{101}' |
			sed "s,^\([0-9]*\):.*,$file:\1: over 100 columns,"
	done
}

file_length() {
	wc -l "${code[@]}" | awk '$2 != "total" && $1 > 700 {
		print $2 ": " $1 " lines" }'
}

function_length() {
	awk '/^\{/ { start = FNR }
		/^\}/ && start {
			if (FNR - start - 1 > 60)
				print FILENAME ":" start ": " FNR - start - 1 " lines"
			start = 0
		}' "${c[@]}"
}

spdx() {
	local tag='SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause'
	for file in "${code[@]}" user/*.conf user/systemd/* user/man/* \
		user/completion/*; do
		[ -f "$file" ] || continue
		head -n 2 "$file" | grep -qF "$tag" || echo "$file"
	done
}

left_over() {
	grep -nE '\b(TODO|FIXME|XXX|HACK)\b' "${c[@]}" "${python[@]}"
}

headers_alone() {
	local cflags bpfflags compile
	read -ra cflags <<<"${CFLAGS:-}"
	read -ra bpfflags <<<"${BPFFLAGS:-}"
	for file in "${c[@]}"; do
		compile=()
		case $file in
		include/*.h)
			compile=("${CLANG:-clang}" "${bpfflags[@]}")
			echo "#include \"$file\"" |
				"${CC:-cc}" "${cflags[@]}" -I. -Werror -fsyntax-only -x c -
			;;
		bpf/*.h | tests/bpf/*.bpf.h)
			compile=("${CLANG:-clang}" "${bpfflags[@]}")
			;;
		*.h)
			compile=("${CC:-cc}" "${cflags[@]}")
			;;
		*)
			continue
			;;
		esac
		echo "#include \"$file\"" |
			"${compile[@]}" -I. -Werror -fsyntax-only -x c -
	done
}

unit_tests_exist() {
	local name known
	for file in user/*.c; do
		name=$(basename "$file" .c)
		known=${UNTESTED[$name]-}
		if [ -f "tests/unit/test_$name.c" ] || [ -f "tests/bpf/test_$name.c" ]; then
			[ -z "$known" ] || echo "$file has a test: take it from UNTESTED"
		elif [ -z "$known" ]; then
			echo "$file has no tests/unit/test_$name.c"
		fi
	done
	for name in "${!UNTESTED[@]}"; do
		[ -f "user/$name.c" ] || echo "UNTESTED names user/$name.c, which is not there"
	done
}

shell_syntax() {
	for file in "${shell[@]}"; do
		bash -n "$file"
	done
}

shell_lint() {
	# SC2187: the guest of tests/vm has BusyBox ash
	shellcheck -S warning -e SC2187 -f gcc "${shell[@]}"
}

python_syntax() {
	/usr/bin/python3 - "${python[@]}" <<-'EOF'
	import sys
	for path in sys.argv[1:]:
	    with open(path, encoding="utf-8") as file:
	        compile(file.read(), path, "exec")
	EOF
}

man_lint() {
	for file in "${man[@]}"; do
		man --warnings -E UTF-8 -l "$file" >/dev/null
	done
}

# Links to files of this repository, in the documents.
links() {
	local target
	for file in "${doc[@]}"; do
		grep -oE '\]\([^)#:]+' "$file" | cut -c 3- | while IFS= read -r target; do
			[ -e "$(dirname "$file")/$target" ] || echo "$file: no $target"
		done
	done
}

# Every key of the configuration, and every counter. To find none is a mistake
# of the expression that looks for them.
documented() {
	local name keys counters
	keys=$(sed -nE 's/^\t\[KEY_[A-Z_]+\] = \{ *"([a-z_]+)".*/\1/p' user/config_key.c)
	counters=$(sed -nE 's/^\tX\([A-Z0-9_]+, "([a-z0-9_]+)"\).*/\1/p' \
		include/realpeer/abi.h)
	[ -n "$keys" ] || echo "user/config_key.c: no keys are found"
	[ -n "$counters" ] || echo "include/realpeer/abi.h: no counters are found"
	for name in $keys; do
		grep -q "^| \`$name\` |" README.md || echo "README.md: no key $name"
		grep -qx "\.It Cm $name" user/man/realpeer.conf.5 ||
			echo "user/man/realpeer.conf.5: no key $name"
	done
	for name in $counters; do
		grep -q "\`$name\`" README.md || echo "README.md: no counter $name"
	done
}

# Each source is in the map of the modules.
mapped() {
	local stem
	for file in "${c[@]}"; do
		case $file in
		bpf/* | include/* | user/*)
			stem=$(basename "$file")
			stem=${stem%%.*}
			grep -qE "[\`/]$stem\.[bch]" ARCHITECTURE.md ||
				echo "ARCHITECTURE.md: no $file"
			;;
		esac
	done
}

check_with clang-format 'clang-format' format
check 'white space' white_space
check 'lines of at most 100 columns' line_length
check 'files of at most 700 lines' file_length
check 'functions of at most 60 lines' function_length
check 'SPDX line' spdx
check 'nothing left to do in the code' left_over
check 'each header compiles alone' headers_alone
check 'each source has a unit test' unit_tests_exist
check 'shell syntax' shell_syntax
check_with shellcheck 'shellcheck' shell_lint
check_with /usr/bin/python3 'python syntax' python_syntax
check_with man 'man pages' man_lint
check 'links in the documents' links
check 'sources are in the map of the modules' mapped
check 'keys and counters are documented' documented

printf '%d passed, %d failed' "$passed" "$failed"
[ "$skipped" -eq 0 ] || printf ', %d skipped' "$skipped"
echo
[ "$failed" -eq 0 ]
