/* The words of --help. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

static const char whole[] =
	"sockshard puts N copies of an unmodified server on one port.\n"
	"\n"
	"  sockshard run [OPTION ...] -- COMMAND [ARG ...]  start, watch, restart copies\n"
	"  sockshard status [--json] [GROUP]                who has which share of what\n"
	"  sockshard stop [GROUP]                           end a launcher and its copies\n"
	"  sockshard check [OPTION ...] [-- COMMAND ...]    what is possible here; --run: a\n"
	"                                                   dry run of COMMAND\n"
	"  sockshard keeper [OPTION ...]                    start the keeper by hand\n"
	"  sockshard roll | scale                           not in this version\n"
	"\n"
	"  -h, --help     this text; `sockshard SUBCOMMAND --help` has the options\n"
	"  -V, --version  the version\n"
	"\n"
	"Exit status: 0 done; 64 usage or policy; 69 not possible here; 126, 127 the\n"
	"command cannot be executed, is not found; else a copy's own, or 128 + signal.\n";

static const char run[] =
	"sockshard run [OPTION ...] -- COMMAND [ARG ...]\n"
	"\n"
	"Starts copies of COMMAND that share its ports, and starts them again when they\n"
	"end. {slot} in an ARG becomes the copy's slot number.\n"
	"\n"
	"  -n, --copies N|auto    how many, 1-1024; auto: the CPUs allowed by affinity\n"
	"                         and control group (1)\n"
	"  -p, --policy POLICY    which addresses are shared and how, or @FILE\n"
	"                         (SOCKSHARD_POLICY, else tcp/*:*=balance)\n"
	"  -g, --group NAME       only copies of the same group share an address\n"
	"                         (SOCKSHARD_GROUP, else a name of its own)\n"
	"  -w, --weight 1         other weights are not supported by this version\n"
	"      --pin              slot k on the k-th allowed CPU, modulo\n"
	"      --prefix           \"[slot] \" before each line of output; the output goes\n"
	"                         through run then, and has no reader once run is gone\n"
	"      --grace SEC        seconds from the stop signal to KILL (10)\n"
	"      --stop-signal SIG  name or number (TERM)\n"
	"      --restart always|on-failure|no\n"
	"                         which copies that ended are started again (always)\n"
	"      --drain SEC        not in this version\n"
	"  -h, --help\n"
	"      --version\n"
	"\n"
	"Signals: TERM and INT stop all copies within the grace time, a second one kills\n"
	"them. USR1, USR2 and WINCH are passed on. HUP (roll), TTIN and TTOU (scale) are\n"
	"not in this version.\n"
	"\n"
	"Exit status:\n"
	"  0         after TERM or INT, or no copy is left and none had failed\n"
	"  64        usage, variables or policy\n"
	"  69        COMMAND is static, setuid, Go or of another libc; libsockshard.so\n"
	"            is not there; SOCKSHARD_STRICT=1 and no keeper\n"
	"  126, 127  COMMAND cannot be executed, is not found\n"
	"  else      of a copy that ended before it listened for the first time; or of\n"
	"            the last that failed, when none is left; 128 + signal\n";

static const char status[] =
	"sockshard status [--json] [GROUP]\n"
	"\n"
	"Shows each shared address: its slots, their state and share, and strangers on\n"
	"the port. Without GROUP: all groups.\n"
	"\n"
	"      --json         for programs; later versions only add to it\n"
	"      --openmetrics  not in this version\n"
	"      --watch        not in this version\n"
	"  -h, --help\n"
	"      --version\n"
	"\n"
	"Exit status: 0 shown; 64 usage, or no such GROUP; 69 no keeper runs here.\n";

static const char stop[] =
	"sockshard stop [GROUP]\n"
	"\n"
	"Sends TERM to the `run` of GROUP, which ends its copies within its --grace, and\n"
	"returns when it has ended and the ports are free. GROUP may be left out when one\n"
	"launcher runs here; several launchers of one GROUP are all stopped.\n"
	"\n"
	"  -h, --help\n"
	"      --version\n"
	"\n"
	"Exit status: 0 all have ended; 64 usage, no such GROUP, or several launchers and\n"
	"no GROUP; 69 no keeper or no launcher runs here, or it cannot be signalled.\n";

static const char check[] =
	"sockshard check [-p POLICY] [-- COMMAND]\n"
	"sockshard check --run [--seconds N] [-p POLICY] -- COMMAND [ARG ...]\n"
	"\n"
	"Tries on a scratch port of loopback what this system allows, and says of each\n"
	"rule of the policy and of COMMAND whether they work here.\n"
	"\n"
	"--run: runs COMMAND for a while under the library in a network namespace of its\n"
	"own, with a few clients for each listener, ends all of it, and says what it bound,\n"
	"who accepts and how, and what is shared. All but the network is real: files are\n"
	"read and written.\n"
	"\n"
	"  -p, --policy POLICY  rules or @FILE (SOCKSHARD_POLICY, else tcp/*:*=balance)\n"
	"      --run            the dry run\n"
	"      --seconds N      how long, 1-3600 (5)\n"
	"  -h, --help\n"
	"      --version\n"
	"\n"
	"Exit status: 0 all of it works; 64 usage or policy; 69 something asked for is\n"
	"impossible here, --run: or not shared, COMMAND did not listen or failed; 126, 127\n"
	"COMMAND cannot be executed, is not found; 128 + a signal that ended --run early.\n";

static const char keeper[] =
	"sockshard keeper [OPTION ...]\n"
	"\n"
	"Starts the keeper in the background and returns when it listens. `run` and\n"
	"preloaded servers start it themselves.\n"
	"\n"
	"      --foreground   be the keeper\n"
	"      --idle SEC     with --foreground: end after so long without a socket and\n"
	"                     a client (10)\n"
	"      --name NAME    abstract unix name (SOCKSHARD_KEEPER, else sockshard/UID/k)\n"
	"      --ready-fd N   with --foreground: close this descriptor when it listens\n"
	"      --takeover     not in this version\n"
	"  -h, --help\n"
	"      --version\n"
	"\n"
	"Exit status: 0 it listens, or --foreground and it has ended; 64 usage; 69 it\n"
	"cannot be started.\n";

int cli_help(const char *subcommand)
{
	static const struct {
		const char *name, *text;
	} helps[] = {
		{"run", run},
		{"status", status},
		{"stop", stop},
		{"check", check},
		{"keeper", keeper},
	};
	size_t i;

	for (i = 0; subcommand != NULL && i < sizeof(helps) / sizeof(helps[0]); i++) {
		if (strcmp(helps[i].name, subcommand) == 0)
			break;
	}
	if (subcommand == NULL)
		fputs(whole, stdout);
	else if (i < sizeof(helps) / sizeof(helps[0]))
		fputs(helps[i].text, stdout);
	else
		printf("sockshard %s: not in this version\n", subcommand);
	return fflush(stdout) == 0 ? 0 : 1;
}
