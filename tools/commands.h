/*
 * The commands: each is a function main() calls with argv[0] the command's name;
 * it returns the exit status (0 done, 1 failed, 2 misuse).
 */
#ifndef STAGECOACH_TOOLS_COMMANDS_H
#define STAGECOACH_TOOLS_COMMANDS_H

#include "tools/options.h"

int cmd_prepare(int argc, char **argv);
int cmd_train(int argc, char **argv);
int cmd_plan(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_generate(int argc, char **argv);
int cmd_schedule(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_merge(int argc, char **argv);
int cmd_key(int argc, char **argv);
int cmd_rank(int argc,
	     char **argv); /* started by the launcher, not by people */

/* For --help, the manual and completion. */
extern const struct option_command train_command;
extern const struct option_command plan_command;
extern const struct option_command eval_command;
extern const struct option_command generate_command;
extern const struct option_command inspect_command;
extern const struct option_command report_command;
extern const struct option_command merge_command;
extern const struct option_command key_command;

#endif
