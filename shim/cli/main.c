/* The command: finds the subcommand by its name. */
#include <stddef.h>
#include <string.h>

#include "cli.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv); /* NULL: not in this version */
} subcommands[] = {
	{"run", cli_run},	{"status", cli_status}, {"stop", cli_stop}, {"check", cli_check},
	{"keeper", cli_keeper}, {"roll", NULL},		{"scale", NULL},
};

static int later(int argc, char **argv)
{
	if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
		return cli_help(argv[0]);
	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		return cli_version();
	cli_say("%s: not in this version", argv[0]);
	return CLI_USAGE;
}

int main(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : NULL;
	size_t i;

	if (word == NULL) {
		cli_say("a subcommand is missing, allowed: run, status, stop, check, keeper, "
			"--help, --version");
		return CLI_USAGE;
	}
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
		return cli_help(NULL);
	if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0)
		return cli_version();
	for (i = 0; i < sizeof(subcommands) / sizeof(subcommands[0]); i++) {
		if (strcmp(subcommands[i].name, word) != 0)
			continue;
		return (subcommands[i].run != NULL ? subcommands[i].run : later)(argc - 1,
										 argv + 1);
	}
	cli_say("unknown %s \"%.80s\"; `sockshard --help` lists them",
		word[0] == '-' ? "option" : "subcommand", word);
	return CLI_USAGE;
}
