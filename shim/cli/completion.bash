# bash completion for sockshard: subcommands, the options that --help names, groups that exist.
# shellcheck shell=bash

# The option names of `sockshard WORDS --help` that this version has, one per line.
_sockshard_options() {
	"$@" --help 2>/dev/null | sed -nE '/not (in|supported by) this version/d
		s/^ +(-[a-zA-Z], )?(--[a-z-]+).*/\2/p'
}

_sockshard_groups() {
	"$1" status --json 2>/dev/null | grep -oE '"group":"[A-Za-z0-9._-]+"' | cut -d'"' -f4 | sort -u
}

_sockshard() {
	local program=$1 current=$2 previous=$3 subcommand=${COMP_WORDS[1]} words='' i
	COMPREPLY=()
	if [ "$COMP_CWORD" = 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W "run status stop check keeper --help --version" -- "$current")
		return
	fi
	for ((i = 2; i < COMP_CWORD; i++)); do
		[ "${COMP_WORDS[i]}" = -- ] || continue
		if declare -F _command_offset >/dev/null; then
			_command_offset $((i + 1))
		elif [ $((i + 1)) = "$COMP_CWORD" ]; then
			mapfile -t COMPREPLY < <(compgen -c -- "$current")
		fi
		return
	done
	case $previous in
	--restart) words="always on-failure no" ;;
	--stop-signal) words=$(compgen -A signal SIG) words=${words//SIG/} ;;
	-n | --copies) words=auto ;;
	-g | --group) words=$(_sockshard_groups "$program") ;;
	-p | --policy | -w | --weight | --grace | --seconds | --idle | --name | --ready-fd) return ;;
	*)
		case $current,$subcommand in
		-*) words="$(_sockshard_options "$program" "$subcommand") --" ;;
		*,status | *,stop) words=$(_sockshard_groups "$program") ;;
		*) words=-- ;;
		esac
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}

complete -o default -F _sockshard sockshard
