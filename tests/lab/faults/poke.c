// SPDX-License-Identifier: GPL-2.0-only
/* poke MODULE CASE COMM: asks /proc/MODULE for CASE, as a process called COMM. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int count, char **word)
{
	char path[64];
	int file;

	if (count != 4)
		return 2;
	prctl(PR_SET_NAME, word[3]);
	snprintf(path, sizeof(path), "/proc/%s", word[1]);
	file = open(path, O_WRONLY);
	return file < 0 || write(file, word[2], strlen(word[2])) < 0;
}
