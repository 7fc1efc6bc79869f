import { defineConfig } from "drizzle-kit";

export default defineConfig({
  dialect: "postgresql",
  schema: "./src/schema.ts",
  schemaFilter: ["public"], // drizzle-kit 1.0 looks at every schema without it, and offers to drop those that it does not know
  dbCredentials: { url: process.env.DATABASE_URL! },
});
