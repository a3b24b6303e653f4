package diag

import "slices"

// Code names a kind of failure. Codes are public: they appear in messages, in
// the documentation and in `pyrunner error CODE`, and are never given a second
// meaning. ALK1 is about plans, ALK2 about Python functions, ALK3 about
// environments, ALK4 about data outside, ALK5 about the engine itself.
type Code string

// The codes.
const (
	UnknownColumn     Code = "ALK1001"
	UnknownFunction   Code = "ALK1002"
	BadExpression     Code = "ALK1003"
	InvalidPlan       Code = "ALK1004"
	TypeMismatch      Code = "ALK1005"
	BadOption         Code = "ALK1006"
	QueryFailed       Code = "ALK1007"
	NeedsEnd          Code = "ALK1030"
	NotCheckpointed   Code = "ALK1031"
	PlanChanged       Code = "ALK1032"
	UnknownTable      Code = "ALK1010"
	BadQuery          Code = "ALK1011"
	FunctionRaised    Code = "ALK2001"
	WrongResultType   Code = "ALK2002"
	WrongResultLength Code = "ALK2003"
	WorkerDied        Code = "ALK2004"
	NotShippable      Code = "ALK2005"
	ModuleMissing     Code = "ALK2006"
	WorkerNotStarted  Code = "ALK2007"
	WorkerTimedOut    Code = "ALK2020"
	WorkerTooLarge    Code = "ALK2021"
	ScratchTooLarge   Code = "ALK2022"
	DyingWorkers      Code = "ALK2030"
	TooManyErrors     Code = "ALK2031"
	OutputTooLarge    Code = "ALK2032"
	NotRunAgain       Code = "ALK2033"
	NoSandbox         Code = "ALK2034"
	RowsRefused       Code = "ALK2035"
	NotResolved       Code = "ALK3001"
	BuildFailed       Code = "ALK3002"
	NoInterpreter     Code = "ALK3003"
	NoInstaller       Code = "ALK3004"
	BadLock           Code = "ALK3005"
	BadFile           Code = "ALK3006"
	EnvironmentDenied Code = "ALK3007"
	FileMissing       Code = "ALK4001"
	FileUnreadable    Code = "ALK4002"
	OutputExists      Code = "ALK4003"
	OutputUnwritable  Code = "ALK4004"
	ValueUnreadable   Code = "ALK4010"
	SchemasDiffer     Code = "ALK4011"
	UnexpectedFiles   Code = "ALK4012"
	TooManyPartitions Code = "ALK4013"
	ValueUnwritable   Code = "ALK4014"
	FileNotAllowed    Code = "ALK4015"
	ConnectionLost    Code = "ALK5001"
	Cancelled         Code = "ALK5002"
	Internal          Code = "ALK5003"
	NoRelational      Code = "ALK5004"
	EngineNotFound    Code = "ALK5005"
	OutOfMemory       Code = "ALK5006"
	CheckpointFailed  Code = "ALK5020"
	CheckpointInUse   Code = "ALK5021"
	CheckpointDamaged Code = "ALK5022"
	NullEventTime     Code = "ALK5023"
	WindowOverflow    Code = "ALK5024"
	BadSetting        Code = "ALK5030"
	ServerEnding      Code = "ALK5031"
	NotAuthorized     Code = "ALK5032"
	UnknownJob        Code = "ALK5033"
	NotYours          Code = "ALK5034"
	EnvironmentBusy   Code = "ALK5035"
	ServeRefused      Code = "ALK5036"
	NoServer          Code = "ALK5037"
	WrongVersion      Code = "ALK5038"
	ServerFull        Code = "ALK5039"
	BadScriptHeader   Code = "ALK5040"
	NotAllowed        Code = "ALK5041"
)

// Entry documents a code.
type Entry struct {
	Code Code
	// Class is the Python exception class that carries the code.
	Class string
	// Summary is one sentence; Text is what `pyrunner error CODE` prints
	// below it.
	Summary string
	Text    string
}

// Entries documents every code, in their order. The Python side's table is
// generated from it (make generate).
var Entries = []Entry{
	{
		UnknownColumn, "PlanError", "A column is named that the table does not have.",
		"The message lists the nearest names. Column names are compared without regard to case, as in SQL. with_columns evaluates its expressions against the table as it was before the call, so a column made in a call can only be used in the next one.",
	},
	{
		UnknownFunction, "PlanError", "A function is named that neither SQL nor the job knows.",
		"SQL functions are DuckDB's. A Python function is used by calling it: with_columns(y=f(\"x\")).",
	},
	{
		BadExpression, "PlanError", "A text could not be read as one SQL expression.",
		"A plain string where an expression is expected is SQL: quote column names that contain spaces or capitals with double quotes, string literals with single quotes, or use al.col and al.lit.",
	},
	{
		InvalidPlan, "PlanError", "The plan is not well formed.",
		"A node refers to a missing input or function, two nodes share a name, or a required part is absent. Plans made by the client are always well formed; a plan written by hand is checked by the same rules.",
	},
	{
		TypeMismatch, "PlanError", "A type does not fit where it is used.",
		"The types of a function's arguments come from the columns it is applied to, the type of its result from its declaration. Cast explicitly where they differ: \"x::double\".",
	},
	{BadOption, "PlanError", "An option has a value that it cannot take.", "The message names the option, what was expected and what was got."},
	{
		QueryFailed, "PlanError", "A relational step, or a statement of SQL, failed while it ran.",
		"Typical causes are a value that does not fit the type it is cast to, an overflow, or a division of decimals. The cause is the text of the relational engine.",
	},
	{
		NeedsEnd, "PlanError", "A step needs the end of its input, and a stream has none.",
		"Sorting, joins, aggregates of the whole table, and results that are handed over as one need all rows. Put limit(n) before the step, aggregate by windows (with_watermark, window), write with checkpoint=, or read the rows as they come with iter_batches().",
	},
	{
		NotCheckpointed, "PlanError", "A step cannot be part of a job with checkpoints.",
		"Every step of such a job must be able to say where it is and to go on from there: a generator as the source; filter, select, with_columns, limit, Python functions, windows; write_parquet to a folder.",
	},
	{
		PlanChanged, "PlanError", "The checkpoint was made by another plan.",
		"A job goes on from a checkpoint only with the steps that made it. The message names the first step that differs. The code of a Python function, the rate of a generator and the checkpoint's interval may change. Put the plan back, or give the new one a checkpoint folder and a name of its own.",
	},
	{
		UnknownTable, "PlanError", "A query names a table that is not there.",
		"A name in sql(…) is looked for in tables=, then among the tables of ctx.register, then among the caller's variables that are tables, pandas, polars or Arrow objects. Names are compared without regard to case. pyrunner sql knows the tables that statements have made, and files by their names in single quotes: FROM 'flights.parquet'.",
	},
	{
		BadQuery, "PlanError", "SQL was given that cannot be run.",
		"ctx.sql takes one query: SELECT, WITH, VALUES or FROM. It reads the tables that it names and nothing else: files are read with read_parquet and the like, and no statement can change, load or write anything. Values are handed in with params= and stand in the query as $name. pyrunner sql and pyrunner run take statements of every kind, one after the other, and values with --param.",
	},
	{
		FunctionRaised, "UdfError", "A Python function raised an exception.",
		"The user's line, the row and its values are shown. An exception is not retried unless retries= asks for it. Try f.local(...) with the values of the row.",
	},
	{
		WrongResultType, "UdfError", "A Python function returned a value that its declared type cannot hold.",
		"A value is converted where nothing is lost (1 to 1.0), never where something would be (1.5 to 1, or a string to a number). Return the declared type or change the declaration.",
	},
	{
		WrongResultLength, "UdfError", "A vectorised function did not return one value for each row.",
		"Arrays go in and one array of the same length comes out. A function that changes the number of rows is a map_batches function.",
	},
	{
		WorkerDied, "WorkerCrashed", "The Python process that ran a function died.",
		"The batch was run again on a fresh worker as often as retries= allows, and the worker died each time. Signal 9 is SIGKILL, often the kernel's reaction to memory shortage; 11 is a fault in native code. The last lines the process printed are shown.",
	},
	{
		NotShippable, "PlanError", "A function closes over something that cannot be sent to another process.",
		"Open files, sockets, locks and database connections cannot be sent. Open them inside the function.",
	},
	{
		ModuleMissing, "UdfError", "A function needs a module that its environment does not have.",
		"Modules of the working directory and editable installs are shipped with the function; anything else must be in its environment: al.Environment(requirements=[...]).",
	},
	{
		WorkerNotStarted, "WorkerCrashed", "A Python worker could not be started.",
		"The interpreter of the environment did not run, or pyarrow or grpcio could not be imported by it.",
	},
	{
		WorkerTimedOut, "WorkerTimeout", "A Python function made no progress for longer than its time limit.",
		"The limit, timeout=, is for one row of a row function and for one call of a function that takes arrays or batches, setting up included; the default is 60 seconds. The worker was interrupted, and killed a second later if it went on. A function that hangs once would most likely hang again, so the batch is not run again, whatever retries= says.",
	},
	{
		WorkerTooLarge, "WorkerMemoryExceeded", "The Python process that ran a function held more memory than it may.",
		"The limit, memory=, is for a worker with all the processes that it starts; the default is 1 GiB. The engine looks at its workers up to forty times a second and ends one that is over its limit: a watch, not a wall, so a worker may be over it for a moment. Pages of files that are mapped do not count. The batch was run again on a fresh worker as often as retries= allows. Raise memory=, or lower batch_rows= so that less is held at a time.",
	},
	{
		ScratchTooLarge, "WorkerCrashed", "The Python process that ran a function wrote more temporary files than it may.",
		"Temporary files may take as much as the function's memory=, and a worker may have 65,536 of them; files that are deleted but still open count. Where workers have a file system of their own for them, writing fails instead, with \"No space left on device\". They are looked at once a second. Write large files to a folder that the function is given: mounts={\"/data\": \"rw\"}.",
	},
	{
		DyingWorkers, "WorkerCrashed", "The workers of a function die again and again.",
		"A worker that dies is replaced, and its batch is run again. That hides a fault which comes and goes, and each time costs a new process, so there is an end to it: when 10 more workers have died without a row to blame than a tenth of the batches that went well, when 17 rows that follow one another have each ended their worker or passed the time limit, or when more than 1,000 rows have. Workers that something outside ends with SIGKILL do not count.",
	},
	{
		TooManyErrors, "UdfError", "A function failed on more rows than its job may do without.",
		"With on_error=\"null\" or \"dead_letter\" the job goes on when a function fails on a row, up to errors_max rows, 10,000 if nothing else is said, and 64 MiB of dead letters. A function that fails on most rows is wrong itself. The dead letters that were written until then can still be read: job.dead_letters().",
	},
	{
		OutputTooLarge, "UdfError", "A function gave more than it may, or is to get a table that is too large.",
		"The limit, output_max=, is 256 MiB for a row of a row function or a table function, and 1 GiB for a call of a function that gets columns, batches or groups: what is given for a batch is in memory as a whole. A generator that never ends meets it too. Give less at a time, a smaller batch_rows= for example, or raise it up to 2 GiB. A table that is handed to a function whole, with tables=, may have 2 GiB: select what the function needs of it, or join.",
	},
	{
		NotRunAgain, "WorkerCrashed", "A worker died in the middle of a batch that must not be run twice.",
		"The function says deterministic=False, so no row is run twice. The worker had begun the batch and may have run the function on some of its rows; their results went with it. Without deterministic=False the batch would have been run again.",
	},
	{
		NoSandbox, "UdfError", "A worker could not be shut in as was asked.",
		"Functions run in a sandbox: level L2 has namespaces and a root of its own, L1 Landlock and a filter of system calls, L0 neither. sandbox=\"auto\" takes the best that the machine offers, sandbox=\"strict\" starts nothing below L2, sandbox=\"off\" is L0. The message says which layer is missing, or which of the function's mounts= cannot be shown. pyrunner doctor lists all layers, and why there are not more.",
	},
	{
		RowsRefused, "UdfError", "An operator cannot take what it was given.",
		"The rows, or a model, are not what the operator works on: a NULL among the features of a training, a label with one value where two are needed, a text that is no vector, a model of another kind. The message names the operator and what is wrong.",
	},
	{
		NotResolved, "EnvironmentBuildError", "The requirements of an environment cannot be satisfied.",
		"No set of package versions fulfils all requirements on this Python and platform, or a package does not exist. The installer's own words are shown.",
	},
	{BuildFailed, "EnvironmentBuildError", "An environment could not be built.", "The installer failed after the versions were chosen: the disk is full, the index cannot be reached, or a wheel is broken. Nothing half-built is kept."},
	{NoInterpreter, "EnvironmentBuildError", "The Python interpreter that an environment asks for is not on this machine.", "Install it, or ask for another: al.Environment(python=\"3.11\"). Interpreters are looked for on PATH and where uv and pyenv put them."},
	{NoInstaller, "EnvironmentBuildError", "The installer uv was not found.", "It comes with the client: pip install uv. ALINK_UV may name its path."},
	{
		BadLock, "EnvironmentBuildError", "A lock file cannot be used.",
		"A lock file says exactly what is installed: a requirements file in which every line is one version with its hashes (uv pip compile --generate-hashes, uv export, pip-compile), or a pylock.toml (PEP 751: uv export --format pylock.toml). A uv.lock is exported first, since it has a meaning only with its project. What the worker itself needs and the lock does not have is added, in versions that fit.",
	},
	{
		BadFile, "EnvironmentBuildError", "A wheel, a file or an archive of an environment cannot be used.",
		"wheels= takes wheels as they were built, under their own names, for the Python and the machine that they are installed on. archives= takes .zip, .tar, .tar.gz, .tgz, .tar.bz2 and .tar.zst; everything in one must lie in its own folder, so names that are absolute or hold .., links that lead outside and devices are refused.",
	},
	{
		EnvironmentDenied, "EnvironmentBuildError", "The engine does not allow what an environment asks for.",
		"Building a package from source runs its code. An environment asks for it with source_builds=True, and the engine must allow it too: the setting source_builds of a user's own engine, the key source_builds of a server's policy.",
	},
	{FileMissing, "DataError", "An input file does not exist.", "Relative paths are taken from the client's working directory."},
	{FileUnreadable, "DataError", "An input file cannot be read.", "The file is damaged, is not of the expected format, or permission is lacking."},
	{OutputExists, "DataError", "The output exists already.", "mode=\"overwrite\" replaces it once the job has succeeded, --overwrite of pyrunner sql once all statements have; until then the old one stays."},
	{OutputUnwritable, "DataError", "The output cannot be written.", "The folder is missing, permission is lacking or the disk is full. What was written so far has been removed."},
	{
		ValueUnreadable, "DataError", "A value in a file does not fit the type of its column.",
		"Types that are not declared are found by looking at the first rows (sample_rows=). A later value that does not fit is an error and is never rounded, cut or left out. Declare the type of the column, schema={\"x\": \"string\"}, or look at more rows: sample_rows=None looks at all.",
	},
	{
		SchemasDiffer, "DataError", "Files that are read as one table do not have the same columns.",
		"Every file must have the same columns, in any order, of types that widen to one another (int to bigint, bigint to double). union_by_name=True gives NULL for columns that a file does not have, and schema= declares a type for all files.",
	},
	{
		UnexpectedFiles, "DataError", "A folder holds other files than it should.",
		"A folder is read as a table when all its files are of the format; names that begin with . or _ are passed over. A pattern picks files: \"data/*.csv\". A folder is only overwritten when it holds nothing but data files, so that nothing else is deleted.",
	},
	{
		TooManyPartitions, "DataError", "An output has too many partitions.",
		"Each combination of values of the columns of partition_by becomes a folder. Choose columns with fewer values, or derive some: year(ts) instead of ts.",
	},
	{
		ValueUnwritable, "DataError", "A value cannot be written in the format of the output.",
		"The message names the column. Cast or drop it, or write Parquet, which holds every type.",
	},
	{
		FileNotAllowed, "DataError", "The server does not let plans use this file.",
		"Paths in a plan are of the server's disk, and a server lets plans read and write in the folders alone that it was started with (serve --files DIR). What a link leads to counts, not where the link lies. Without --files a server on a TCP address lets plans use no files at all: send tables with from_arrow and fetch results with to_arrow.",
	},
	{ConnectionLost, "ConnectionLost", "The engine's process ended or can no longer be reached.", "The job's result is lost; outputs that were not finished have not appeared. A new connection starts a new engine."},
	{Cancelled, "Cancelled", "The job was cancelled.", "By Ctrl-C, by job.cancel(), or because its client ended."},
	{Internal, "Error", "The engine failed in a way it does not know.", "This is a fault of the engine. Please report it with the text of the message."},
	{NoRelational, "PlanError", "This engine was built without its relational part.", "Filter, join, aggregate, sort and limit need an engine built with cgo."},
	{EngineNotFound, "ConnectionLost", "The engine's binary was not found or did not start.", "The message lists where it was looked for. ALINK_PYRUNNER may name its path."},
	{
		OutOfMemory, "PlanError", "A step needs more memory than the engine's limit allows, or than the machine has.",
		"Where a relational step is named: raise memory= at al.connect, or --memory on the command line, or give it a spill directory with room. Where the job was ended to keep the engine alive: the engine was over its limit and the machine, or its container, had next to nothing left, so the job that moved most data was ended before the kernel would have ended them all.",
	},
	{CheckpointFailed, "DataError", "A checkpoint could not be written or read.", "The folder is missing, permission is lacking or the disk is full. The job ends; started again, it goes on from the last checkpoint that is complete."},
	{CheckpointInUse, "DataError", "Another job is using the checkpoint folder.", "Each job needs a folder of its own. The lock ends with the engine that holds it, however that ends."},
	{CheckpointDamaged, "DataError", "None of the checkpoints in a folder can be read.", "Files have been altered or removed since they were written. Starting over would write again what the output holds already, so the job does not start. To start over, remove the checkpoint folder and the job's output."},
	{NullEventTime, "DataError", "The event time of a row is NULL.", "A row without a time belongs to no window and would be lost. Filter such rows out before with_watermark."},
	{WindowOverflow, "DataError", "An aggregate of a window has no place in the type of its result.", "Sums of integers are bigint and sums of decimals have at most 38 digits, as in the rest of the engine."},
	{
		BadSetting, "PlanError", "A setting is not known or has a value that it cannot take.",
		"Settings are flags, ALINK_* variables, and keys of alink.toml or [tool.alink] in pyproject.toml of the working directory. `pyrunner config` lists all of them with their values and where each was set.",
	},
	{
		ServerEnding, "ConnectionLost", "The server is being ended and takes no new jobs.",
		"After SIGTERM a server lets the jobs that run go on for a while (serve --grace) and refuses new ones. Connect again once it has been started anew.",
	},
	{
		NotAuthorized, "ConnectionLost", "The server refuses the token, or was given none.",
		"The token is the content of the file that the server was started with (serve --token-file), or of the one that it made and named at its start. Pass it with al.connect(..., token=...), ALINK_TOKEN or ALINK_TOKEN_FILE.",
	},
	{
		UnknownJob, "PlanError", "There is no job of this name.",
		"A server keeps the outcome of the last 64 jobs that have ended. `pyrunner jobs ls` lists those that it knows.",
	},
	{
		NotYours, "PlanError", "A table or a result belongs to another connection.",
		"What a client uploads and the rows of its jobs are seen by that connection alone, and are dropped when it ends. Files that a job writes are for everybody.",
	},
	{
		EnvironmentBusy, "EnvironmentBuildError", "An environment is in use and cannot be removed.",
		"Workers of a running engine use it, or it is being built. It can be removed when they have ended; env gc passes over such environments by itself.",
	},
	{
		ServeRefused, "PlanError", "A server cannot be started like this.",
		"A server runs whatever code its clients send. Beyond this machine it therefore needs a token and TLS: --token-file, --tls-cert and --tls-key. Without them it listens on a unix socket of the user or on 127.0.0.1.",
	},
	{
		NoServer, "ConnectionLost", "No server answers at this address.",
		"The message names the address, the cause what the network or TLS says. A certificate that is not signed by one of the system's authorities is checked with tls_ca=, and it must name the host that the address names.",
	},
	{
		WrongVersion, "ConnectionLost", "Client and server do not speak the same version of their protocol.",
		"`pyrunner version` shows the protocol of either side. Install the same version on both.",
	},
	{
		ServerFull, "PlanError", "A limit of the server has been reached.",
		"A server bounds its connections, the jobs of each, and the bytes of the tables and of the code that they send. The message names the limit. Close connections and tables that are not needed any more, or wait for jobs to end.",
	},
	{BadScriptHeader, "PlanError", "A script's header (PEP 723) cannot be used.", "The comment block between \"# /// script\" and \"# ///\" is TOML: dependencies is a list of requirements, requires-python the versions of Python that the script is for. Functions without env= run in an environment of those dependencies."},
	{NotAllowed, "PlanError", "A function asks for more than the engine lets it have.", "Whoever runs an engine for others says in its policy what functions may ask for: how little they are confined, the network, folders of the machine, memory, workers, interpreters and environments of their own. The message names what was asked for, and the hint the key of the policy file that would allow it. An engine that was started with sandbox strict also refuses functions with another sandbox=."},
}

// Find returns the entry of a code.
func Find(code Code) (Entry, bool) {
	i := slices.IndexFunc(Entries, func(e Entry) bool { return e.Code == code })
	if i < 0 {
		return Entry{}, false
	}
	return Entries[i], true
}
