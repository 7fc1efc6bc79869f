import { defineConfig } from "prisma/config";

// Of version 7 only the client is tried: its `db push` wants an engine that npm does not have.
export default defineConfig({ schema: "prisma/schema.prisma" });
