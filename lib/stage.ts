/**
 * The stages, one typed table. A number that differs between a laptop, a team's sandbox and production is here and
 * nowhere else; what differs in kind (a VPC, a metrics bridge) is a target's matter, see `target.ts`.
 */
import { FreshetError } from "../core/errors.ts";

/** Tokens of one tenant and route class. One token is a row read or scored, or an event or pushed row written, or a call of an administrator. */
export interface TenantLimit {
  readonly perSecond: number;
  /** Tokens of a full bucket: what may come at once. */
  readonly burst: number;
  /** Tokens of a UTC day; null for no bound. */
  readonly perDay: number | null;
}

export type PlanName = "standard" | "large";
export interface RequestLimit {
  readonly requestsPerSecond: number;
  readonly burst: number;
}

/** A bucket of another region, versioned, and the key that its objects are encrypted with there. */
export interface ReplicaBucket {
  readonly bucketArn: string;
  readonly keyArn: string;
}

export interface Stage {
  readonly name: "local" | "dev" | "prod";
  /** True when data must survive a deleted stack: keys, buckets, tables, streams and the online store are then kept. */
  readonly retainData: boolean;
  readonly logRetentionDays: 7 | 30 | 90;
  readonly stream: {
    readonly shards: number;
    /** Replays reach back this far, and a blocked shard is safe for this long. Kinesis allows 24 to 8,760. */
    readonly retentionHours: number;
  };
  /** With Kafka as the broker, in place of shards. */
  readonly kafka: {
    /** Of MSK. Serverless sizes itself and is paid by partition and byte; provisioned is three brokers of a type. */
    readonly cluster: "serverless" | "provisioned";
    /** Of each topic. One batch of a partition is worked off at a time: as many invocations at once. They can be raised, never lowered. */
    readonly partitions: number;
    /** Of each topic's mapping: 5 MB/s each. As many as the minimum run, and are paid, while nothing comes. */
    readonly pollers: { readonly minimum: number; readonly maximum: number };
    /** Provisioned clusters only. */
    readonly brokerType: string;
    readonly brokerVolumeGb: number;
  };
  readonly aggregation: {
    /** Records in one invocation, at most 10,000. A KPL record holds many events, so this bounds calls, not events. */
    readonly batchSize: number;
    /** Longer means fewer invocations and staler features. 0 hands a batch over as soon as a poll finds records. */
    readonly batchWindowSeconds: number;
    /** Invocations at once on one shard, at most 10. Ids live with the tiles, so order does not matter. */
    readonly parallelizationFactor: number;
    readonly memoryMb: number;
    /** The seal stays a function timeout behind, so a longer one means that more memory is kept open. */
    readonly timeoutSeconds: number;
  };
  readonly archive: {
    /** Days after which what was written last of an hour is removed; null keeps it. At least what the longest window needs. */
    readonly retentionDays: number | null;
    /** How long replaced objects stay for readers that have listed them. Longer than any reader runs. */
    readonly graceHours: number;
    readonly compactionMemoryMb: number;
    /** Of training sets and historical jobs: `auto` is DuckDB in the function, and Athena for what that has not room or time for. */
    readonly engine: "auto" | "duckdb" | "athena";
    /** What one query of Athena may scan, in 10⁹ bytes: it is charged by what it scans. */
    readonly scanLimitGb: number;
  };
  readonly api: {
    readonly memoryMb: number;
    /** The outer wall, for all callers together. */
    readonly requestsPerSecond: number;
    readonly burst: number;
    /** For one tenant, by its plan: a wall before any function runs. What it may ask for in rows and events is under `limits`. */
    readonly plans: Readonly<Record<PlanName, RequestLimit>>;
    /** What a read of features may take in all, before a score goes on without. */
    readonly readBudgetMs: number;
    /** Of that, how long the online store is waited for where a snapshot may answer. */
    readonly storeBudgetMs: number;
  };
  /** Tenants that have a usage plan's key to themselves, and of which plan. All others share sixteen keys of plan `standard`. */
  readonly tenants: Readonly<Record<string, PlanName>>;
  readonly audit: {
    /** Days after which a record of who changed what is removed. */
    readonly retentionDays: number;
  };
  readonly ingest: {
    /**
     * Ingest takes tenants' tokens out of the buckets that all hosts share, which are in the store: it moves into the store's network,
     * which then has an endpoint of Kinesis, paid by the hour. Otherwise each of its environments has buckets of its own.
     */
    readonly sharesLimits: boolean;
  };
  /** Of each tenant without limits of its own, by route class. `freshet tenants limits` gives one others. */
  readonly limits: Readonly<Record<"score" | "read" | "write" | "admin", TenantLimit>>;
  readonly snapshots: {
    /** Less is a younger stand-in and a shorter replay after a loss, and a write more for each entity that goes on changing. */
    readonly everyMinutes: number;
    /** For how long a round of bulk snapshots stays. A store can be restored as of any of them. */
    readonly keepHours: number;
  };
  /** Where archive and bulk snapshots are copied to as they are written, for the loss of a region; null keeps them in one. */
  readonly replicas: { readonly archive: ReplicaBucket; readonly snapshots: ReplicaBucket } | null;
  readonly training: {
    /** Half of it is DuckDB's. Most that Lambda gives is 10,240. */
    readonly buildMemoryMb: number;
    readonly instanceType: string;
    readonly volumeGb: number;
    /** After that the job is told to end with the trees it has. */
    readonly maxRuntimeSeconds: number;
  };
  readonly onlineStore: {
    readonly nodeType: string;
    readonly shards: number;
    readonly replicasPerShard: number;
    /** Daily snapshots kept; they are the fallback of the fallback, restores come from the archive and the broker. */
    readonly snapshotDays: number;
    readonly availabilityZones: number;
  };
  readonly alarms: {
    readonly lagMs: number;
    /** Records of one topic that the aggregate function has not taken; of Kafka only. */
    readonly lagRecords: number;
    readonly freshnessP99Ms: number;
    /** How far a seal may fall behind where it should be: a batch that is tried again holds it for a while. */
    readonly sealBehindMs: number;
    /** Records of one stream in five minutes. */
    readonly quarantined: number;
    /** Reads in a minute that the online store did not answer: a slow moment now and then makes a few. */
    readonly readsWithoutStore: number;
    /** Share of answers that are 5xx, 0 to 1. */
    readonly serverErrorShare: number;
  };
}

const stages: Readonly<Record<Stage["name"], Stage>> = {
  local: {
    name: "local",
    retainData: false,
    logRetentionDays: 7,
    // Two shards although one would do: the seal is a minimum over shards, and a laptop should exercise that.
    stream: { shards: 2, retentionHours: 24 },
    kafka: {
      cluster: "serverless",
      partitions: 2,
      pollers: { minimum: 1, maximum: 2 },
      brokerType: "kafka.t3.small",
      brokerVolumeGb: 10,
    },
    aggregation: {
      batchSize: 1_000,
      batchWindowSeconds: 0,
      parallelizationFactor: 1,
      memoryMb: 1_024,
      timeoutSeconds: 60,
    },
    archive: { retentionDays: null, graceHours: 24, compactionMemoryMb: 1_024, engine: "auto", scanLimitGb: 100 },
    api: {
      ...{ memoryMb: 512, requestsPerSecond: 10_000, burst: 5_000, readBudgetMs: 1000, storeBudgetMs: 500 },
      plans: {
        standard: { requestsPerSecond: 10_000, burst: 5_000 },
        large: { requestsPerSecond: 10_000, burst: 5_000 },
      },
    },
    tenants: {},
    ingest: { sharesLimits: true },
    // More than one machine can do: the path is the same as elsewhere, and nothing is refused.
    limits: {
      score: { perSecond: 200_000, burst: 200_000, perDay: null },
      read: { perSecond: 500_000, burst: 500_000, perDay: null },
      write: { perSecond: 500_000, burst: 500_000, perDay: null },
      admin: { perSecond: 1_000, burst: 1_000, perDay: null },
    },
    snapshots: { everyMinutes: 15, keepHours: 24 },
    replicas: null,
    audit: { retentionDays: 7 },
    training: { buildMemoryMb: 3_008, instanceType: "ml.m5.large", volumeGb: 10, maxRuntimeSeconds: 3_600 },
    onlineStore: { nodeType: "cache.t4g.micro", shards: 1, replicasPerShard: 0, snapshotDays: 0, availabilityZones: 1 },
    alarms: {
      lagMs: 60_000,
      lagRecords: 50_000,
      freshnessP99Ms: 2_000,
      sealBehindMs: 900_000,
      quarantined: 10,
      readsWithoutStore: 20,
      serverErrorShare: 0.01,
    },
  },
  dev: {
    name: "dev",
    retainData: false,
    logRetentionDays: 30,
    stream: { shards: 1, retentionHours: 24 },
    kafka: {
      cluster: "serverless",
      partitions: 3,
      pollers: { minimum: 1, maximum: 3 },
      brokerType: "kafka.m7g.large",
      brokerVolumeGb: 100,
    },
    aggregation: {
      batchSize: 1_000,
      batchWindowSeconds: 1,
      parallelizationFactor: 1,
      memoryMb: 1_024,
      timeoutSeconds: 60,
    },
    archive: { retentionDays: 400, graceHours: 24, compactionMemoryMb: 2_048, engine: "auto", scanLimitGb: 200 },
    api: {
      ...{ memoryMb: 1_024, requestsPerSecond: 500, burst: 250, readBudgetMs: 250, storeBudgetMs: 100 },
      plans: {
        standard: { requestsPerSecond: 200, burst: 100 },
        large: { requestsPerSecond: 400, burst: 200 },
      },
    },
    tenants: {},
    ingest: { sharesLimits: false },
    limits: {
      score: { perSecond: 500, burst: 1_000, perDay: null },
      read: { perSecond: 2_000, burst: 4_000, perDay: null },
      write: { perSecond: 2_000, burst: 5_000, perDay: null },
      admin: { perSecond: 10, burst: 50, perDay: null },
    },
    snapshots: { everyMinutes: 15, keepHours: 48 },
    replicas: null,
    audit: { retentionDays: 90 },
    training: { buildMemoryMb: 3_008, instanceType: "ml.m5.large", volumeGb: 10, maxRuntimeSeconds: 3_600 },
    // A replica even here: without one there is no failover, and durability asks for cluster mode with failover.
    onlineStore: { nodeType: "cache.r7g.large", shards: 1, replicasPerShard: 1, snapshotDays: 1, availabilityZones: 2 },
    alarms: {
      lagMs: 60_000,
      lagRecords: 50_000,
      freshnessP99Ms: 3_000,
      sealBehindMs: 900_000,
      quarantined: 100,
      readsWithoutStore: 20,
      serverErrorShare: 0.05,
    },
  },
  prod: {
    name: "prod",
    retainData: true,
    logRetentionDays: 90,
    stream: { shards: 8, retentionHours: 168 },
    kafka: {
      cluster: "provisioned",
      // As many invocations at once as eight shards with a parallelization factor of four have.
      partitions: 32,
      pollers: { minimum: 2, maximum: 16 },
      brokerType: "kafka.m7g.xlarge",
      brokerVolumeGb: 1_000,
    },
    aggregation: {
      batchSize: 1_000,
      // Lambda polls a shard once a second: a window on top of that is paid in freshness and saves few invocations.
      batchWindowSeconds: 0,
      parallelizationFactor: 4,
      // 1,769 MB is one whole vCPU; the work is single-threaded.
      memoryMb: 1_769,
      timeoutSeconds: 60,
    },
    archive: { retentionDays: null, graceHours: 24, compactionMemoryMb: 3_008, engine: "auto", scanLimitGb: 2_000 },
    api: {
      ...{ memoryMb: 1_769, requestsPerSecond: 5_000, burst: 2_500, readBudgetMs: 250, storeBudgetMs: 100 },
      plans: {
        standard: { requestsPerSecond: 1_000, burst: 500 },
        large: { requestsPerSecond: 3_000, burst: 1_500 },
      },
    },
    tenants: {},
    ingest: { sharesLimits: true },
    limits: {
      score: { perSecond: 2_000, burst: 4_000, perDay: null },
      read: { perSecond: 10_000, burst: 20_000, perDay: null },
      write: { perSecond: 10_000, burst: 20_000, perDay: null },
      admin: { perSecond: 20, burst: 100, perDay: null },
    },
    snapshots: { everyMinutes: 15, keepHours: 168 },
    replicas: null,
    audit: { retentionDays: 400 },
    training: { buildMemoryMb: 10_240, instanceType: "ml.m5.2xlarge", volumeGb: 50, maxRuntimeSeconds: 14_400 },
    onlineStore: {
      nodeType: "cache.r7g.xlarge",
      shards: 3,
      replicasPerShard: 1,
      snapshotDays: 7,
      availabilityZones: 2,
    },
    alarms: {
      lagMs: 60_000,
      lagRecords: 500_000,
      freshnessP99Ms: 2_000,
      sealBehindMs: 900_000,
      quarantined: 10,
      readsWithoutStore: 20,
      serverErrorShare: 0.01,
    },
  },
};

export const allStages: readonly Stage[] = Object.values(stages);

/** @throws FreshetError `stage_unknown` */
export function stageNamed(name: string): Stage {
  const stage = (stages as Readonly<Record<string, Stage | undefined>>)[name];
  if (stage === undefined) {
    throw new FreshetError("stage_unknown", `no stage ${name}; use ${Object.keys(stages).join(", ")}`, {
      field: "stage",
      repair: "pass -c stage=dev",
    });
  }
  return stage;
}
