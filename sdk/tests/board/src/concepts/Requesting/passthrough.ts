export const inclusions: Record<string, string> = {
  "/api/Membership/join": "everybody may join",
  "/api/Membership/_names": "the names are public",
};

export const exclusions: string[] = ["/api/Board/post", "/api/Board/pin"];
