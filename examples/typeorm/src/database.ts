import pg from "pg";
import { DataSource } from "typeorm";
import { SubscriptionEntity } from "./entity.js";

const TIMESTAMP_WITHOUT_ZONE = 1114;

// Else pg takes times without zone for those of the process, and two processes in different zones would disagree about each of them.
pg.defaults.parseInputDatesAsUTC = true;
pg.types.setTypeParser(TIMESTAMP_WITHOUT_ZONE, (text) => new Date(`${text.replace(" ", "T")}Z`));

export const database = new DataSource({
  type: "postgres",
  url: process.env.DATABASE_URL,
  driver: pg,
  entities: [SubscriptionEntity],
  // now() of insertedAt and updatedAt, which have no zone either.
  extra: { options: "-c TimeZone=UTC" },
});
