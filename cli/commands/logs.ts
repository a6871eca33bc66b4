import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  CloudWatchLogsClient,
  DescribeLogGroupsCommand,
  type FilteredLogEvent,
  FilterLogEventsCommand,
} from "@aws-sdk/client-cloudwatch-logs";
import { type Command, Option } from "commander";
import { FreshetError } from "../../core/errors.ts";
import { freshetHome, homeFolder } from "../../local/home.ts";
import { untilInterrupted } from "../../local/interrupt.ts";
import { logFile } from "../../local/processes.ts";
import { duration } from "../arguments.ts";
import { openDeployment, type StageOption, stageOption } from "../deployment.ts";

const POLL_MS = 1_000;

interface Options extends StageOption {
  readonly follow?: boolean;
  /** Milliseconds. */
  readonly since: number;
}

export function register(program: Command): void {
  program
    .command("logs [name]")
    .description(
      "Logs of a function (aggregate, api, …) or of a process (emulator, valkey, serve, kafka, mapping, cdk-deploy); of all functions without a name.",
    )
    .option("-f, --follow", "go on until Ctrl-C")
    .addOption(stageOption())
    .addOption(new Option("--since <age>", "how far back, as 30s, 10m, 2h").argParser(duration).default(600_000, "10m"))
    .addHelpText(
      "after",
      "\nExamples:\n  freshet logs\n  freshet logs aggregate --since 1h\n  freshet logs valkey --follow",
    )
    .action(async (name: string | undefined, options: Options) => {
      const home = freshetHome();
      const sinceMs = Date.now() - options.since;
      await untilInterrupted((signal) =>
        options.stage === undefined && name !== undefined && existsSync(logFile(home, name))
          ? followFile(logFile(home, name), options.follow ?? false, signal)
          : followFunctions(home, name, sinceMs, options, signal),
      );
    });
}

async function followFile(file: string, follow: boolean, signal: AbortSignal): Promise<void> {
  let shown = 0;
  do {
    const { size } = statSync(file);
    if (size < shown) shown = 0;
    if (size > shown) process.stdout.write(readFileSync(file).subarray(shown));
    shown = size;
    if (follow) await sleep(POLL_MS, undefined, { signal });
  } while (follow);
}

async function followFunctions(
  home: string,
  name: string | undefined,
  sinceMs: number,
  options: Options,
  signal: AbortSignal,
): Promise<void> {
  const { clientConfig, stage } = await openDeployment(options);
  const client = new CloudWatchLogsClient(clientConfig);
  try {
    const groups = await functionGroups(client, home, stage, name);
    const seen = new Set<string>();
    let fromMs = sinceMs;
    do {
      const events = (await Promise.all(groups.map((group) => read(client, group, fromMs)))).flat();
      events.sort((a, b) => (a.timestamp ?? 0) - (b.timestamp ?? 0));
      for (const event of events) {
        if (event.eventId !== undefined && seen.has(event.eventId)) continue;
        if (event.eventId !== undefined) seen.add(event.eventId);
        fromMs = Math.max(fromMs, event.timestamp ?? 0);
        const time = new Date(event.timestamp ?? 0).toISOString().slice(11, 23);
        process.stdout.write(`${time} ${event.group.padEnd(12)} ${event.message?.trimEnd()}\n`);
      }
      if (options.follow) await sleep(POLL_MS, undefined, { signal });
    } while (options.follow);
  } finally {
    client.destroy();
  }
}

async function functionGroups(
  client: CloudWatchLogsClient,
  home: string,
  stage: string,
  name?: string,
): Promise<string[]> {
  const logGroupNamePrefix = `/aws/lambda/freshet-${stage}-`;
  const { logGroups = [] } = await client.send(new DescribeLogGroupsCommand({ logGroupNamePrefix }));
  const all = logGroups.map((group) => group.logGroupName ?? "").filter((group) => group !== "");
  const groups = name === undefined ? all : all.filter((group) => shortName(group) === name);
  if (groups.length > 0 || name === undefined) return groups;
  const processes = readdirSync(homeFolder(home, "logs")).map((file) => basename(file, ".log"));
  throw new FreshetError("log_unknown", `there is no log of ${name}`, {
    repair: `functions: ${all.map(shortName).sort().join(", ") || "none yet"}; processes: ${processes.sort().join(", ")}`,
  });
}

/** `/aws/lambda/freshet-local-aggregate` is called `aggregate`. */
function shortName(group: string): string {
  return basename(group).replace(/^freshet-[a-z]+-/, "");
}

async function read(
  client: CloudWatchLogsClient,
  logGroupName: string,
  startTime: number,
): Promise<(FilteredLogEvent & { group: string })[]> {
  const events: (FilteredLogEvent & { group: string })[] = [];
  let nextToken: string | undefined;
  do {
    const page = await client.send(new FilterLogEventsCommand({ logGroupName, startTime, nextToken }));
    for (const event of page.events ?? []) events.push({ ...event, group: shortName(logGroupName) });
    nextToken = page.nextToken;
  } while (nextToken !== undefined);
  return events;
}
