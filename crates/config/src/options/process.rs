//! Options of the process: files, privileges, pools, libraries.

use super::*;
use crate::scopes::*;
use std::sync::Arc;

const SECURITY: Scopes = Scopes::of(ScopeKind::Security);
const POOL: Scopes = Scopes::of(ScopeKind::ThreadPool);
const DATASOURCE: Scopes = Scopes::of(ScopeKind::Datasource);
const CLUSTER: Scopes = Scopes::of(ScopeKind::Cluster);
const REPLICATE: Scopes = Scopes::of(ScopeKind::Replicate);

options! {
    /// File that holds the process id.
    PIDFILE: Arc<str> = text("Pidfile", "/var/run/ecelerity.pid", G).restart();
    /// File of the counters that survive a restart.
    MASTERDB_FILE: Arc<str> = text("MasterDB_File", "/var/log/ecelerity/ecdb", G);
    /// How often these counters are saved.
    PERMASTORE_INTERVAL: u64 = interval("Permastore_Interval", "300", G);
    /// Limit of open files to ask the system for; four for each outbound connection is a good measure.
    SERVER_MAX_FILE_DESCRIPTORS: i64 = int("Server_Max_File_Descriptors", "3000000", G);
    /// User to run as, once all sockets are open.
    SECURITY_USER: Option<Arc<str>> = optional("User", SECURITY).restart();
    /// Group to run as.
    SECURITY_GROUP: Option<Arc<str>> = optional("Group", SECURITY).restart();
    /// Folder to make the root of the file system.
    SECURITY_CHROOT: Option<Arc<str>> = optional("Chroot", SECURITY).restart();
    /// Capabilities to keep, such as `cap_net_bind_service+ep`.
    SECURITY_CAPABILITIES: Option<Arc<str>> = optional("Capabilities", SECURITY).restart();
    /// Further groups of the process: `true` takes those of the user, or a list of names.
    SECURITY_SUPPLEMENTAL_GROUPS: Option<Arc<str>> = optional("Supplemental_Groups", SECURITY).restart();
    /// Stack of a thread; nothing to choose here.
    THREADPOOL_STACK_SIZE: u64 = size("Stack_Size", "0", POOL).accepted();
    /// Jobs that may wait in the pool; 0 is no limit.
    THREADPOOL_BACKLOG: i64 = int("Backlog", "0", POOL);
    /// Event loop for deliveries; a hint for the number of workers.
    DELIVERY_POOL: Option<Arc<str>> = optional("Delivery_Pool", G).accepted();
    /// Event loop for queue maintenance; a hint for the number of workers.
    MAINTAINER_POOL: Option<Arc<str>> = optional("Maintainer_Pool", G).accepted();
    /// File for changes made on the console; it is read after all others.
    LOCAL_CHANGES_FILE: Option<Arc<str>> = optional("Local_Changes_File", G);
    /// Saves changes made on the console in `Local_Changes_File` only.
    LOCAL_CHANGES_ONLY: bool = boolean("Local_Changes_Only", "false", G);
    /// Compiled patterns of policies that are kept.
    PCRE_CACHE_SIZE: i64 = int("PCRE_Cache_Size", "100", G);
    /// How long a compiled pattern of a policy is kept.
    PCRE_CACHE_TTL: u64 = interval("PCRE_Cache_TTL", "300", G);
    /// Named throttles of policies that are kept.
    SIV_THROTTLE_CACHE_SIZE: i64 = int("SIV_Throttle_Cache_Size", "1000", G);
    /// Where the data is: `driver:rest`, several are used in turn.
    DATASOURCE_URI: Arc<[Arc<str>]> = list("URI", "( )", DATASOURCE);
    /// Life of a cached result.
    DATASOURCE_CACHE_LIFE: u64 = interval("Cache_Life", "3600", DATASOURCE);
    /// Results that are cached.
    DATASOURCE_CACHE_SIZE: i64 = int("Cache_Size", "1000", DATASOURCE);
    /// Rows of a result; further ones are cut off. -1 is no limit.
    DATASOURCE_MAX_ROWS: i64 = range("Max_Rows", "100", -1, i32::MAX as i64, DATASOURCE);
    /// Never caches.
    DATASOURCE_NO_CACHE: bool = boolean("No_Cache", "false", DATASOURCE);
    /// Tells results to the cluster.
    DATASOURCE_SERIALIZED: bool = boolean("Serialized", "true", DATASOURCE).accepted();
    /// Thread pool in which queries run.
    DATASOURCE_POOL: Arc<str> = text("Pool", "IO", DATASOURCE);
    /// Charset of results whose driver does not tell.
    DATASOURCE_ASSUME_CHARSET: Arc<str> = text("Assume_Charset", "ISO-8859-1", DATASOURCE);
    /// Domains with much mail; nothing to choose here.
    HOT_DOMAINS: Arc<[Arc<str>]> = list("Hot_Domains", "( )", G).accepted();
    /// Pause between looks at the memory that queues take; nothing to choose here.
    MAIL_QUEUE_CHECK_VM_INTERVAL: u64 = interval("Mail_Queue_Check_VM_Interval", "60", G).accepted();
    /// Nothing to choose here.
    CLEAR_MAIL_QUEUE_MAINTAINERS: bool = boolean("Clear_Mail_Queue_Maintainers", "true", G).accepted();
    /// Restores source addresses that the system has lost.
    BINDING_AUTO_REPLUMB: Option<Arc<str>> = optional("Binding_Auto_Replumb", G).missing();
    /// Pause between looks at source addresses.
    BINDING_AUTO_REPLUMB_INTERVAL: Option<Arc<str>> = optional("Binding_Auto_Replumb_Interval", G).missing();
    /// Privileges to keep on Solaris.
    SECURITY_PRIVILEGES: Option<Arc<str>> = optional("Privileges", SECURITY).accepted();
    /// Paths of trace files made on the console get this mode.
    TRACE_SMTP_MODE: u32 = mode("Trace_SMTP_Mode", "0640", G);
    /// Licence of Momentum; not needed here.
    LICENSE: Option<Arc<str>> = optional("License", G).accepted();
    /// Nothing to choose here.
    SCHEDULER: Option<Arc<str>> = optional("Scheduler", G).accepted();
    /// Nothing to choose here.
    GROWBUF_SIZE: u64 = size("Growbuf_Size", "0", G).accepted();
    /// Nothing to choose here.
    MALLOC2MMAP_THRESHOLD: u64 = size("Malloc2MMap_Threshold", "0", G).accepted();
    /// Nothing to choose here.
    INITIAL_HASH_BUCKETS: i64 = int("Initial_Hash_Buckets", "32", G).accepted();
    /// Nothing to choose here.
    MAX_TIMED_EVENTS_PER_ITER: i64 = int("Max_Timed_Events_Per_Iter", "1024", G).accepted();
    /// Nothing to choose here.
    USE_IFLIST_CACHE: bool = boolean("Use_IFList_Cache", "false", G).accepted();
    /// Restart of a stuck process; systemd does that here.
    WATCHDOG_INTERVAL: u64 = interval("Watchdog_Interval", "0", G).accepted();
    /// Name of this node.
    CLUSTER_NODENAME: Option<Arc<str>> = optional("Nodename", CLUSTER).missing();
    /// Address of this node.
    CLUSTER_NODEADDR: Option<Arc<str>> = optional("Nodeaddr", CLUSTER).missing();
    /// Nodes and their addresses.
    CLUSTER_TOPOLOGY: Option<Arc<str>> = optional("Topology", CLUSTER).missing();
    /// Addresses that move between the nodes.
    CLUSTER_DURAVIP: Option<Arc<str>> = optional("Duravip_Network", CLUSTER).missing();
    /// Name of the part of the cluster that this node is in.
    CLUSTER_SUBCLUSTER: Option<Arc<str>> = optional("Subcluster", CLUSTER).missing();
    /// What is told to the other nodes, separated by semicolons.
    REPLICATE_PARAMETERS: Arc<str> = text("Parameters", "", REPLICATE).missing();
    /// Kind of what is shared.
    REPLICATE_TYPE: Option<Arc<str>> = optional("Type", REPLICATE).missing();
    /// Class of what is shared.
    REPLICATE_CLASS: Option<Arc<str>> = optional("Class", REPLICATE).missing();
    /// Longest wait before operations are sent.
    REPLICATE_MAX_DELAY: Arc<str> = text("Max_Delay", "1.0", REPLICATE).missing();
    /// Operations that are collected before they are sent.
    REPLICATE_MAX_PENDING: i64 = int("Max_Pending", "100", REPLICATE).missing();
    /// Largest shared cache; -1 is no limit.
    REPLICATE_MAX_SIZE: i64 = range("Max_Size", "-1", -1, i64::MAX, REPLICATE).missing();
}
