// Written by `python -m web.schema`. Do not edit.

export interface Accept {
  code: string;
}

export interface Candidate {
  kind: string;
  address: string;
}

export interface ChooseProfile {
  profile: string;
}

export interface ControlConnected {
  party: string;
  url: string;
}

export interface ControlLost {
  party: string;
  url: string;
  reason: string;
}

export interface Create {
  name: string;
  uses?: number;
}

export interface ForecastView {
  kind: string;
  why: string;
}

export interface Head {
  length: number;
  hash: string;
}

export interface Invite {
  uses?: number;
  expires_s?: number;
}

export interface InviteIssued {
  party: string;
  length: number;
  head: string;
  record: string;
  author: string;
  invite: string;
  uses: number;
  expires_at: number;
}

export interface InviteRevoked {
  party: string;
  length: number;
  head: string;
  record: string;
  author: string;
  invite: string;
}

export interface InviteView {
  id: string;
  uses_left: number;
  expires_at: number;
  revoked: boolean;
  issuer: string;
}

export interface Join {
  link: string;
  public?: string;
}

export interface Kick {
  peer: string;
}

export interface Leave {}

export interface NatClassified {
  mapping: string;
  filtering: string;
  hairpin: string;
  server: string;
  evidence: string[];
}

export interface NatGathered {
  generation: number;
  candidates: Candidate[];
}

export interface NatLabelled {
  label: string;
  server: string;
}

export interface NatMapped {
  server: string;
  mapped: string;
  rtt_ms: number;
}

export interface NatNetwork {
  network: string;
  gateway: string;
  reason: string;
}

export interface NatPortMapped {
  method: string;
  protocol: string;
  port: number;
  external: string;
  lifetime_s: number;
  gateway: string;
}

export interface NatPortUnmapped {
  protocol: string;
  port: number;
  reason: string;
}

export interface NatUnmapped {
  server: string;
  reason: string;
}

export interface NatView {
  mapped: string[];
  label: string;
  words: string;
  candidates: string[];
  nature: string;
  mapping: string;
  filtering: string;
  hairpin: string;
  ports: PortView[];
  ports_reason: string;
  gateway: string;
}

export interface NodeView {
  id: string;
  name: string;
  version: string;
  session: string;
  interface: string;
  port: number;
  address: string;
  address6: string;
  profile: string;
  nat: NatView;
}

export interface Offer {
  public?: string;
  expires_s?: number;
}

export interface PactAnswered {
  party: string;
  wireguard: string;
  address: string;
  own_address: string;
  places: string[];
}

export interface PactEnded {
  party: string;
  reason: string;
}

export interface PactOffered {
  party: string;
  expires_at: number;
  places: string[];
}

export interface PartyCreated {
  party: string;
  length: number;
  head: string;
  record: string;
  author: string;
  name: string;
  founder: string;
  founder_name: string;
  address: string;
  address6: string;
}

export interface PartyEntered {
  party: string;
  control: string[];
  embedded: boolean;
}

export interface PartyExited {
  party: string;
  reason: string;
}

export interface PartyForked {
  party: string;
  reason: string;
  length: number;
  head: string;
}

export interface PartyJoinFailed {
  reason: string;
}

export interface PartyRenamed {
  party: string;
  length: number;
  head: string;
  record: string;
  author: string;
  name: string;
}

export interface PartyView {
  id: string;
  name: string;
  head: Head;
  founder: boolean;
  control: string[];
  control_connected: string;
  control_embedded: boolean;
  control_reason: string;
  warning: string;
  invites: InviteView[];
}

export interface PathDoubted {
  peer: string;
  path: PathQuality;
  second: PathQuality | null;
  silent_ms: number;
}

export interface PathFailed {
  peer: string;
  tried: string[];
  after_ms: number;
  reason: string;
}

export interface PathLost {
  peer: string;
  old: PathQuality;
  reason: string;
}

export interface PathOpened {
  peer: string;
  path: PathQuality;
  took_ms: number;
}

export interface PathProbing {
  peer: string;
  addresses: string[];
}

export interface PathQuality {
  kind: string;
  address: string;
  rtt_us: number;
  loss_permille?: number;
  jitter_us?: number;
  relay?: string;
}

export interface PathSwitched {
  peer: string;
  old: PathQuality;
  new: PathQuality;
  reason: string;
}

export interface PathTrusted {
  peer: string;
  path: PathQuality;
  after_ms: number;
}

export interface PathView {
  kind: string;
  address: string;
  via: string;
  rtt_ms: number;
  loss: number;
  since: number;
}

export interface PeerCandidates {
  peer: string;
  generation: number;
  candidates: Candidate[];
}

export interface PeerJoined {
  party: string;
  length: number;
  head: string;
  record: string;
  author: string;
  peer: string;
  name: string;
  address: string;
  address6: string;
  invite: string;
}

export interface PeerKicked {
  party: string;
  length: number;
  head: string;
  record: string;
  author: string;
  peer: string;
}

export interface PeerLeft {
  party: string;
  length: number;
  head: string;
  record: string;
  author: string;
  peer: string;
}

export interface PeerNat {
  peer: string;
  mapping: string;
  filtering: string;
  hairpin: string;
}

export interface PeerOffline {
  peer: string;
  reason: string;
}

export interface PeerOnline {
  peer: string;
}

export interface PeerRenamed {
  party: string;
  length: number;
  head: string;
  record: string;
  author: string;
  peer: string;
  name: string;
}

export interface PeerView {
  id: string;
  name: string;
  address: string;
  address6: string;
  state: string;
  path: PathView | null;
  why: string;
  doubt: string;
  nat: string;
  forecast: ForecastView;
  relay: string;
  rx_bytes: number;
  tx_bytes: number;
  founder: boolean;
}

export interface PortView {
  inside: string;
  outside: string;
}

export interface ProfileChosen {
  profile: string;
  reason: string;
  mtu: number;
  keepalive_s: number;
}

export interface QrText {
  text: string;
}

export interface Refusal {
  code: string;
  what: string;
  why: string;
  fix: string;
}

export interface RelayBound {
  relay: string;
  carrier: string;
  address: string;
  rtt_us: number;
  took_ms: number;
}

export interface RelayOffered {
  relay: string;
  region: string;
  tcp: string;
  boot: string;
}

export interface RelayPicked {
  peer: string;
  relay: string;
  sum_ms: number;
  reason: string;
}

export interface RelayUnbound {
  relay: string;
  carrier: string;
  reason: string;
}

export interface RelayView {
  name: string;
  region: string;
  tcp: string;
  carrier: string;
  rtt_ms: number;
  reason: string;
}

export interface RelayWithdrawn {
  relay: string;
  reason: string;
}

export interface Rename {
  name: string;
}

export interface RevokeInvite {
  invite: string;
}

export interface SessionCarried {
  state: unknown;
}

export interface SessionEnded {
  reason: string;
}

export interface SessionResumed {
  asleep_ms: number;
}

export interface SessionStarted {
  version: string;
  platform: string;
  peer: string;
  name: string;
  wireguard: string;
}

export interface Status {
  seq: number;
  node: NodeView;
  party: PartyView | null;
  peers: PeerView[];
  relays: RelayView[];
}

export interface Stored {
  seq: number;
  stream: string;
  version: number;
  id: string;
  type: string;
  at: number;
  session: string;
  data: unknown;
}

export interface TunnelConfigured {
  address: string;
  address6: string;
  mtu: number;
}

export interface TunnelEstablished {
  peer: string;
  took_ms: number;
}

export interface TunnelExpired {
  peer: string;
  reason: string;
}

export interface TunnelStarted {
  interface: string;
  port: number;
  backend: string;
}

export interface TunnelStopped {
  reason: string;
}

/** The payload (`Stored.data`) of every event type. */
export interface Payloads {
  "session.started": SessionStarted;
  "session.ended": SessionEnded;
  "session.resumed": SessionResumed;
  "session.carried": SessionCarried;
  "party.entered": PartyEntered;
  "party.exited": PartyExited;
  "party.join_failed": PartyJoinFailed;
  "party.created": PartyCreated;
  "party.renamed": PartyRenamed;
  "party.invite_issued": InviteIssued;
  "party.invite_revoked": InviteRevoked;
  "party.forked": PartyForked;
  "party.offered": PactOffered;
  "party.answered": PactAnswered;
  "party.pact_ended": PactEnded;
  "party.control_connected": ControlConnected;
  "party.control_lost": ControlLost;
  "peer.joined": PeerJoined;
  "peer.left": PeerLeft;
  "peer.kicked": PeerKicked;
  "peer.renamed": PeerRenamed;
  "peer.online": PeerOnline;
  "peer.offline": PeerOffline;
  "peer.candidates": PeerCandidates;
  "peer.nat": PeerNat;
  "nat.gathered": NatGathered;
  "nat.mapped": NatMapped;
  "nat.unmapped": NatUnmapped;
  "nat.labelled": NatLabelled;
  "nat.port_mapped": NatPortMapped;
  "nat.port_unmapped": NatPortUnmapped;
  "nat.classified": NatClassified;
  "nat.network": NatNetwork;
  "relay.offered": RelayOffered;
  "relay.withdrawn": RelayWithdrawn;
  "relay.bound": RelayBound;
  "relay.unbound": RelayUnbound;
  "relay.picked": RelayPicked;
  "path.probing": PathProbing;
  "path.opened": PathOpened;
  "path.switched": PathSwitched;
  "path.lost": PathLost;
  "path.doubted": PathDoubted;
  "path.trusted": PathTrusted;
  "path.failed": PathFailed;
  "tunnel.started": TunnelStarted;
  "tunnel.configured": TunnelConfigured;
  "tunnel.stopped": TunnelStopped;
  "tunnel.established": TunnelEstablished;
  "tunnel.expired": TunnelExpired;
  "profile.chosen": ProfileChosen;
}

/** The body of every command, by path. */
export interface Commands {
  "/api/create": Create;
  "/api/join": Join;
  "/api/invite": Invite;
  "/api/invite/revoke": RevokeInvite;
  "/api/offer": Offer;
  "/api/accept": Accept;
  "/api/leave": Leave;
  "/api/kick": Kick;
  "/api/rename": Rename;
  "/api/profile": ChooseProfile;
}
