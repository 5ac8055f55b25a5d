"""What runs on the board: three scripts for any POSIX shell (dash, bash, busybox).

KEEP lives as long as the connection. It says what is there, makes a private folder, answers each
line of its standard input with the state of the board, and when that input ends, for whatever
reason, stops what still runs and removes the folder. Should the network fall silent without the
connection ending, no line comes either, and after two minutes it does the same.
"""

from __future__ import annotations

KEEP = r"""
root=$1 need=$2 evit=$3 parent=$4
LC_ALL=C; export LC_ALL
say() { printf '%s\t%s\n' "$1" "$2"; }
show() { 2>/dev/null tr '\000\n\t' '   ' <"$1"; }

state() {
  line=state
  for zone in "$root"/sys/class/thermal/thermal_zone*; do
    { read -r kind <"$zone/type" && read -r value <"$zone/temp"; } 2>/dev/null || continue
    line="$line	zone:$kind:$value"
  done
  for cooler in "$root"/sys/class/thermal/cooling_device*; do
    { read -r kind <"$cooler/type" && read -r value <"$cooler/cur_state"; } 2>/dev/null || continue
    [ "$value" = 0 ] || line="$line	cool:$kind:$value"
  done
  { read -r value <"$root/sys/devices/platform/soc/soc:firmware/get_throttled"; } 2>/dev/null &&
    line="$line	pi:throttled:$value"
  printf '%s\n' "$line"
}

facts() {
  say system "$(uname -s)"
  say machine "$(uname -m)"
  say hostname "$(uname -n)"
  say model "$(show "$root/proc/device-tree/model")"
  say compatible "$(show "$root/proc/device-tree/compatible")"
  { read -r line <"$root/etc/nv_tegra_release"; } 2>/dev/null && say l4t "$line"
  2>/dev/null sed -n '/^model name/{s/^[^:]*: */cpu	/p;q;}' <"$root/proc/cpuinfo"
  2>/dev/null sed -n 's/^MemTotal:/memory	MemTotal:/p' <"$root/proc/meminfo"
  { read -r line <"$root/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"; } 2>/dev/null &&
    say governor "$line"
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader \
    2>/dev/null </dev/null | sed 's/^/gpu	/'
  nvpmodel -q 2>/dev/null </dev/null | sed -n 's/^NV Power Mode: */power	/p'
  say python "$(python3 --version 2>&1 </dev/null | head -n 1)"
  tools
}

tools() {
  for tool in "$evit" "$evit/bin/evit" "${EVIT:-}" "${EVIT:-}/bin/evit" \
      "$(command -v evit)" "$HOME/.local/bin/evit"; do
    if [ -f "$tool" ] && [ -x "$tool" ]; then
      say evit "$tool"
      say evit_version "$("$tool" --version 2>&1 </dev/null | tail -n 1)"
      break
    fi
  done
  for tool in "$(command -v trtexec)" "$root/usr/src/tensorrt/bin/trtexec"; do
    if [ -f "$tool" ] && [ -x "$tool" ]; then
      say trtexec "$tool"
      say tensorrt "$("$tool" --help 2>&1 </dev/null |
        sed -n 's/.*\[TensorRT v\([0-9]*\)\].*/\1/p' | head -n 1)"
      break
    fi
  done
}

place() {
  best=-1 where=
  for base in "${parent:-${TMPDIR:-/tmp}}" "${parent:-/var/tmp}" "${parent:-$HOME}"; do
    [ -d "$base" ] && [ -w "$base" ] || continue
    free=$(df -Pk "$base" 2>/dev/null | { read -r _; read -r _ _ _ free _; printf '%s' "$free"; })
    case $free in ''|*[!0-9]*) continue ;; esac
    [ "$free" -gt "$best" ] && best=$free where=$base
    [ "$free" -ge "$need" ] || continue
    d=$(mktemp -d "$base/evit-bench-XXXXXXXX" 2>/dev/null) && return 0
  done
  return 1
}

alive() {
  for file in "$d"/.group-*; do
    { read -r group <"$file"; } 2>/dev/null && kill -0 "-$group" 2>/dev/null && return 0
  done
  return 1
}

clean() {
  trap '' HUP INT TERM PIPE
  [ -n "$watch" ] && kill "$watch" 2>/dev/null
  for signal in INT TERM KILL; do
    alive || break
    for file in "$d"/.group-*; do
      { read -r group <"$file"; } 2>/dev/null || continue
      # Where a server gives all commands one group, this shell is in it: the folder goes first.
      [ $signal = KILL ] && rm -rf "$d"
      kill -$signal "-$group" 2>/dev/null
    done
    for _ in 1 2 3 4 5 6 7 8; do
      alive || break
      sleep 0.25 2>/dev/null || sleep 1
    done
  done
  rm -rf "$d"
}

d= watch=
say board 1
facts
state
if ! place; then
  say full "$best	$where"
  exit 0
fi
trap 'clean; say clean 1 2>/dev/null' EXIT
trap 'exit 1' HUP INT TERM PIPE
: >"$d/.beat"
(
  nap=
  trap 'kill "$nap" 2>/dev/null; exit' TERM
  while :; do
    sleep 20 & nap=$!
    wait "$nap"
    [ -n "$(find "$d/.beat" -mmin -2 2>/dev/null)" ] && continue
    watch=; clean; kill -KILL $$
    exit
  done
) </dev/null >/dev/null 2>&1 &
watch=$!
say folder "$d"
say free "$free"
say ready 1
while read -r _; do
  : >"$d/.beat"
  state
done
exit 0
"""
"""$1 where /sys and /proc start, $2 KiB that must be free, $3 an evit to prefer, $4 where the
folder goes; the last two may be empty."""

RUN = r"""
d=$1; shift
LC_ALL=C; export LC_ALL
group=
if { read -r group </proc/$$/stat; } 2>/dev/null; then
  group=${group##*) }; group=${group#* }; group=${group#* }; group=${group%% *}
else
  group=$(ps -o pgid= -p $$ | tr -d ' ')
fi
printf '%s\n' "$group" >"$d/.group-$$" && cd "$d" || exit 97
"$@" </dev/null
code=$?
rm -f "$d/.group-$$"
exit $code
"""
"""$1 the folder, then a command and its words; 97 when the folder is gone."""

TAKE = r"""
LC_ALL=C; export LC_ALL
cat >"$1" || exit 98
printf 'size %s\n' "$(wc -c <"$1" | tr -d ' ')"
sum=$(sha256sum "$1" 2>/dev/null || shasum -a 256 "$1" 2>/dev/null) &&
  printf 'sum %s\n' "${sum%% *}"
exit 0
"""
"""$1 the file that its standard input goes to."""
