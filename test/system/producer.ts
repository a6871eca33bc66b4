/** A producer that knows what became of every event it sent: where the broker put it, or what the API said. */
import { setTimeout as sleep } from "node:timers/promises";
import type { KinesisClient, PutRecordsCommand, PutRecordsCommandOutput } from "@aws-sdk/client-kinesis";
import { createKinesisClient } from "../../adapters/kinesis/client.ts";
import { deaggregate } from "../../adapters/kinesis/kpl.ts";
import type { Outgoing } from "../../local/generator/disturb.ts";
import { generate } from "../../local/generator/run.ts";
import type { SimulatedEvent } from "../../local/generator/simulate.ts";
import { brokerSink, type Sink } from "../../local/generator/sinks.ts";
import { deployed, deployedClientConfig } from "../support/deployed.ts";

/** An event's place in the broker. */
export interface Delivery {
  readonly stream: string;
  readonly shard: string;
  readonly sequence: string;
  readonly subSequence: number;
  readonly bytes: Buffer;
}

/** A broker that is being restarted answers again within this time. */
const PERSISTENCE_MS = 60_000;
const streamOf = (kinesisName: string): string =>
  Object.entries(deployed().streams).find(([, name]) => name === kinesisName)![0];

/** Passes PutRecords on, again and again until it is answered as producers do, and notes what was acknowledged. */
export class RecordingBroker {
  readonly deliveries: Delivery[] = [];
  readonly #client: KinesisClient = createKinesisClient(deployedClientConfig());

  readonly client: Pick<KinesisClient, "send"> = {
    send: (async (command: PutRecordsCommand) => {
      const answer = await this.#persist(command);
      command.input.Records!.forEach(({ Data }, i) => {
        const { ErrorCode, ShardId: shard, SequenceNumber: sequence } = answer.Records![i]!;
        if (ErrorCode !== undefined) return;
        const data = Data as Buffer;
        (unpack(data) ?? [data]).forEach((bytes, subSequence) => {
          const stream = streamOf(command.input.StreamName!);
          this.deliveries.push({ stream, shard: shard!, sequence: sequence!, subSequence, bytes });
        });
      });
      return answer;
    }) as KinesisClient["send"],
  };

  async #persist(command: PutRecordsCommand): Promise<PutRecordsCommandOutput> {
    const deadline = Date.now() + PERSISTENCE_MS;
    for (;;) {
      try {
        return await this.#client.send(command);
      } catch (error) {
        if (Date.now() > deadline) throw error;
        await sleep(100);
      }
    }
  }

  close(): void {
    this.#client.destroy();
  }
}

/** A damaged event may look like anything; only a whole aggregate is taken apart. */
function unpack(data: Buffer): readonly Buffer[] | null {
  try {
    return deaggregate(data);
  } catch {
    return null;
  }
}

/** Live events at a steady rate, in the background, every one sent until it is acknowledged. */
export class Load {
  readonly events: SimulatedEvent[] = [];
  readonly #abort = new AbortController();
  readonly #broker = new RecordingBroker();
  readonly #done: Promise<unknown>;

  /** @param sink of the broker. @default Kinesis' */
  constructor(tenant: string, { seed, packed, sink: given }: { seed: number; packed: boolean; sink?: Sink }) {
    const nowMs = Date.now();
    const sink = given ?? brokerSink(this.#broker.client, deployed().streams, packed, seed);
    this.#done = generate(
      {
        tenant,
        seed,
        fromMs: nowMs,
        toMs: nowMs + 600_000,
        live: true,
        transactionsPerSecond: 200,
        clicksPerSecond: 100,
        streams: ["transactions", "clicks"],
        customers: 40,
        merchants: 12,
        fraudRate: 0.01,
        duplicates: 0.05,
        disorder: 0.05,
      },
      this.#remembering(sink),
      () => {},
      this.#abort.signal,
    );
    // Its failure is told by `stop`.
    this.#done.catch(() => {});
  }

  /** Ends the flow once all that was begun is acknowledged. */
  async stop(): Promise<void> {
    this.#abort.abort();
    try {
      await this.#done;
    } finally {
      this.#broker.close();
    }
  }

  #remembering(sink: Sink): Sink {
    return {
      close: () => sink.close(),
      send: async (batch: readonly Outgoing[]) => {
        const acknowledged = await sink.send(batch);
        if (acknowledged !== batch.length) throw new Error(`${batch.length - acknowledged} events not acknowledged`);
        this.events.push(...batch.map(({ event }) => event));
        return acknowledged;
      },
    };
  }
}
