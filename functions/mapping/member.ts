/**
 * One membership in the consumer group: from joining until something goes wrong with it, or it is ended. It keeps a lane for each partition that it is
 * given, fetches into them and commits what is done. Whoever loses a partition commits nothing of it any more; what is in flight then may be applied
 * twice, which the store does not count.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Consumer, FetchIsolationLevels, type GroupAssignment, ListOffsetTimestamps } from "@platformatic/kafka";
import type { KafkaSettings } from "../../adapters/broker/open-broker.ts";
import { connectionOptions } from "../../adapters/kafka/connection.ts";
import { recordsOf } from "../../adapters/kafka/records.ts";
import { createReader, offsetsAt } from "../../adapters/kafka/topic-reader.ts";
import { Lane, type LaneLimits } from "./lane.ts";

export interface MemberOptions extends LaneLimits {
  readonly settings: KafkaSettings;
  readonly group: string;
  /** A member that comes back under its name need not wait until it is missed. */
  readonly instance?: string;
  readonly topics: readonly string[];
  readonly sessionTimeoutMs: number;
  /** Lanes have come, have gone, or hold something to take. */
  readonly onChange: () => void;
  readonly log: (message: string, details: Readonly<Record<string, unknown>>) => void;
}

interface Place {
  readonly topic: string;
  readonly partition: number;
}

const FETCH_BYTES = 1024 * 1024;
const FETCH_BYTES_IN_ALL = 8 * FETCH_BYTES;
/** For other partitions, where one has enough: it is asked for again soon. */
const SHORT_WAIT_MS = 20;
const LONG_WAIT_MS = 250;
const PAUSE_MS = 250;
/** After so many failures in a row everything is begun anew. */
const FAILURES = 20;
/** Partitions may be added. */
const LOOK_EVERY_MS = 15_000;
/** A coordinator answers a join when all members are there, or are given up. */
const REBALANCE_MS = 15_000;

export class Member {
  readonly lanes = new Map<string, Lane>();
  /** Rejects when it has to be begun anew. */
  readonly ended: Promise<never>;
  isJoined = false;
  /** When the group or a broker has last answered. */
  heardMs = Date.now();
  readonly #options: MemberOptions;
  readonly #group: Consumer;
  readonly #reader: Consumer;
  readonly #fetching = new Set<number>();
  #fail!: (error: Error) => void;
  #failures = 0;
  #rounds = 0;
  #closed = false;
  #committed = new Map<string, bigint>();
  #committing: Promise<void> | null = null;
  #partitions = new Map<string, number>();
  #lookTimer: NodeJS.Timeout | undefined;

  constructor(options: MemberOptions) {
    this.#options = options;
    const { settings, group, instance, topics, sessionTimeoutMs } = options;
    this.ended = new Promise<never>((_, reject) => {
      this.#fail = reject;
    });
    this.ended.catch(() => {});
    this.#group = new Consumer({
      ...connectionOptions(settings),
      requestTimeout: 2 * REBALANCE_MS,
      timeout: 2 * REBALANCE_MS,
      groupId: group,
      ...(instance === undefined ? {} : { groupInstanceId: instance }),
      sessionTimeout: sessionTimeoutMs,
      rebalanceTimeout: Math.max(REBALANCE_MS, sessionTimeoutMs),
      heartbeatInterval: Math.floor(sessionTimeoutMs / 5),
      heartbeatStallTimeout: sessionTimeoutMs,
    });
    this.#reader = createReader(settings);
    for (const consumer of [this.#group, this.#reader]) consumer.topics.trackAll(...topics);
    this.#group.on("consumer:group:join", ({ assignments }) => {
      this.#assign(assignments ?? []).catch(this.#fail);
    });
    this.#group.on("consumer:heartbeat:end", () => {
      this.heardMs = Date.now();
    });
    this.#group.on("consumer:heartbeat:stalled", ({ lastError }) =>
      this.#fail(lastError ?? new Error("the group does not answer")),
    );
    // Told by whoever asks for what has failed; without a listener it would end the process.
    (this.#group as NodeJS.EventEmitter).on("error", this.#fail);
    (this.#reader as NodeJS.EventEmitter).on("error", this.#fail);
  }

  async join(): Promise<void> {
    await this.#group.joinGroup({});
    this.#lookTimer = setInterval(() => this.#look().catch(() => {}), LOOK_EVERY_MS);
    this.#lookTimer.unref();
  }

  /** A lane has room again, or a new position to commit. */
  moved(): void {
    this.#fetchDue();
    this.#commitSoon();
  }

  /** Commits what is done and leaves. What is in flight has to be settled before. */
  async leave(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#lookTimer);
    await this.#committing;
    await this.#commit().catch(() => {});
    await Promise.allSettled([this.#group.close(true), this.#reader.close(true)]);
    this.lanes.clear();
  }

  /** Drops everything at once, without a word to the group. */
  abandon(): void {
    this.#closed = true;
    this.isJoined = false;
    clearInterval(this.#lookTimer);
    for (const lane of this.lanes.values()) lane.revoked = true;
    this.lanes.clear();
    for (const consumer of [this.#group, this.#reader]) consumer.close(true).catch(() => {});
  }

  async #assign(assignments: readonly GroupAssignment[]): Promise<void> {
    const round = ++this.#rounds;
    const given = new Map(
      assignments.flatMap(({ topic, partitions }) =>
        partitions.map((partition): [string, Place] => [`${topic}:${partition}`, { topic, partition }]),
      ),
    );
    for (const [key, lane] of this.lanes) {
      if (given.has(key)) continue;
      lane.revoked = true;
      this.lanes.delete(key);
    }
    const fresh = [...given].filter(([key]) => !this.lanes.has(key)).map(([, place]) => place);
    const starts = await this.#startsOf(fresh);
    // A later assignment has come meanwhile, and does all of this itself.
    if (this.#closed || round !== this.#rounds) return;
    for (const { topic, partition } of fresh) {
      const key = `${topic}:${partition}`;
      this.#committed.delete(key);
      this.lanes.set(key, new Lane(topic, partition, starts.get(key)!, this.#options));
    }
    await this.#countPartitions(false);
    this.isJoined = true;
    this.heardMs = Date.now();
    this.#options.log("partitions assigned", { partitions: [...given.keys()].sort() });
    this.#options.onChange();
    this.#fetchDue();
  }

  /** The committed offset of each; where nothing was ever committed, the oldest: what came before the mapping counts too. */
  async #startsOf(places: readonly Place[]): Promise<Map<string, bigint>> {
    const starts = new Map<string, bigint>();
    for (const topic of new Set(places.map((place) => place.topic))) {
      const partitions = places.filter((place) => place.topic === topic).map(({ partition }) => partition);
      const committed = (await this.#group.listCommittedOffsets({ topics: [{ topic, partitions }] })).get(topic) ?? [];
      const oldest = await offsetsAt(this.#reader, topic, ListOffsetTimestamps.EARLIEST);
      for (const partition of partitions) {
        const offset = committed[partition] ?? -1n;
        starts.set(`${topic}:${partition}`, offset >= 0n ? offset : oldest.get(partition)!.offset);
      }
    }
    return starts;
  }

  /** @returns whether there are others than at the last look */
  async #countPartitions(forceUpdate: boolean): Promise<boolean> {
    const { topics } = await this.#reader.metadata({ topics: [...this.#options.topics], forceUpdate });
    const before = this.#partitions;
    this.#partitions = new Map([...topics].map(([name, { partitionsCount }]) => [name, partitionsCount]));
    return [...this.#partitions].some(([name, count]) => (before.get(name) ?? count) !== count);
  }

  /** The leader of the group divides what there was when it joined. */
  async #look(): Promise<void> {
    if (this.isJoined && (await this.#countPartitions(true))) await this.#group.joinGroup({});
  }

  /** One fetch at a time from each broker: it keeps one session of reading for a client. */
  #fetchDue(): void {
    if (this.#closed || !this.isJoined) return;
    this.#fetchAll().catch((error: Error) => this.#failed(error));
  }

  async #fetchAll(): Promise<void> {
    const { topics } = await this.#reader.metadata({ topics: [...this.#options.topics] });
    const byNode = new Map<number, Lane[]>();
    for (const lane of this.lanes.values()) {
      const leader = topics.get(lane.topic)?.partitions[lane.partition]?.leader;
      if (leader === undefined || leader < 0) throw new Error(`${lane.topic}-${lane.partition} has no leader`);
      if (this.#fetching.has(leader) || !lane.wantsMore()) continue;
      byNode.set(leader, [...(byNode.get(leader) ?? []), lane]);
    }
    for (const [node, lanes] of byNode) {
      const ids = new Map(lanes.map(({ topic }) => [topics.get(topic)!.id, topic]));
      this.#fetching.add(node);
      this.#fetch(node, lanes, ids)
        .then(
          () => {
            this.#failures = 0;
          },
          (error: Error) => this.#failed(error),
        )
        .finally(() => {
          this.#fetching.delete(node);
          this.#fetchDue();
        });
    }
  }

  async #fetch(node: number, lanes: readonly Lane[], topicOf: ReadonlyMap<string, string>): Promise<void> {
    const asked = new Map(lanes.map((lane) => [`${lane.topic}:${lane.partition}`, { lane, from: lane.readTo }]));
    const crowded = [...this.lanes.values()].some((lane) => !lane.wantsMore() && lane.attempts === 0);
    const response = await this.#reader.fetch({
      node,
      topics: [...topicOf].map(([topicId, topic]) => ({
        topicId,
        partitions: lanes
          .filter((lane) => lane.topic === topic)
          .map(({ partition, readTo }) => ({
            ...{ partition, fetchOffset: readTo, partitionMaxBytes: FETCH_BYTES },
            ...{ currentLeaderEpoch: -1, lastFetchedEpoch: -1 },
          })),
      })),
      ...{ minBytes: 1, maxBytes: FETCH_BYTES_IN_ALL, maxWaitTime: crowded ? SHORT_WAIT_MS : LONG_WAIT_MS },
      isolationLevel: FetchIsolationLevels.READ_COMMITTED,
    });
    this.heardMs = Date.now();
    let came = false;
    for (const { topicId, partitions } of response.responses) {
      for (const fetched of partitions) {
        const { lane, from } = asked.get(`${topicOf.get(topicId)}:${fetched.partitionIndex}`) ?? {};
        // Of a session that still names what nobody asks for any more.
        if (lane === undefined || lane.revoked || lane.readTo !== from) continue;
        const { records, next } = recordsOf(fetched, from);
        lane.add(records, next ?? from, fetched.lastStableOffset, this.heardMs);
        came ||= next !== null;
      }
    }
    if (came) {
      this.#options.onChange();
      this.#commitSoon();
    }
  }

  #failed(error: Error): void {
    if (this.#closed) return;
    this.#failures++;
    this.#options.log("reading failed", { error: error.message, failures: this.#failures });
    if (this.#failures >= FAILURES) {
      this.#fail(error);
      return;
    }
    this.#reader.clearMetadata();
    sleep(PAUSE_MS * Math.min(8, this.#failures))
      .then(() => this.#returnToLog())
      .catch(() => {})
      .finally(() => this.#fetchDue());
  }

  /** Where a position is not, or no longer, in its log. Nothing can be read there, so it goes on with the oldest that there is, and says so. */
  async #returnToLog(): Promise<void> {
    for (const topic of this.#options.topics) {
      const lanes = [...this.lanes.values()].filter((lane) => lane.topic === topic);
      if (lanes.length === 0) continue;
      const oldest = await offsetsAt(this.#reader, topic, ListOffsetTimestamps.EARLIEST);
      const newest = await offsetsAt(this.#reader, topic, ListOffsetTimestamps.LATEST);
      for (const lane of lanes) {
        const [start, end] = [oldest.get(lane.partition)?.offset, newest.get(lane.partition)?.offset];
        if (start === undefined || end === undefined || (lane.readTo >= start && lane.readTo <= end)) continue;
        this.#options.log("records are gone that were not read: retention has passed, or the topic was made anew", {
          ...{ topic, partition: lane.partition, from: String(lane.readTo), to: String(start) },
        });
        lane.moveTo(start);
      }
    }
  }

  #commitSoon(): void {
    if (this.#closed) return;
    this.#committing ??= this.#commit()
      .catch((error: Error) => {
        // What is done stays done; whoever reads on from an older offset finds duplicates.
        this.#options.log("commit failed", { error: error.message });
        return sleep(PAUSE_MS);
      })
      .finally(() => {
        this.#committing = null;
        if (this.#uncommitted().length > 0) this.#commitSoon();
      });
  }

  #uncommitted(): Lane[] {
    return [...this.lanes].flatMap(([key, lane]) => (this.#committed.get(key) === lane.position ? [] : [lane]));
  }

  async #commit(): Promise<void> {
    const offsets = this.#uncommitted().map(({ topic, partition, position }) => ({
      ...{ topic, partition, offset: position, leaderEpoch: -1 },
    }));
    if (offsets.length === 0) return;
    await this.#group.commit({ offsets });
    for (const { topic, partition, offset } of offsets) this.#committed.set(`${topic}:${partition}`, offset);
    this.heardMs = Date.now();
  }
}
