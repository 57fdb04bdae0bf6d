// A catalog for Spark whose tables know UPDATE, DELETE and MERGE, as those of Delta Lake and Iceberg do: Spark plans and
// rewrites these statements itself, and asks a table format only to read a version and to swap it for another. Rows live in
// the memory of the driver, so it serves one process; a commit against a version that is gone is refused, as there.
package dbt_posthog_sync.testing

import java.util
import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.atomic.AtomicReference
import scala.jdk.CollectionConverters._
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.analysis._
import org.apache.spark.sql.connector.catalog._
import org.apache.spark.sql.connector.expressions.Transform
import org.apache.spark.sql.connector.read._
import org.apache.spark.sql.connector.write._
import org.apache.spark.sql.connector.write.RowLevelOperation.Command
import org.apache.spark.sql.types.{StructField, StructType}
import org.apache.spark.sql.util.CaseInsensitiveStringMap

class RowLevelCatalog extends TableCatalog with SupportsNamespaces {
  private val tables = new ConcurrentHashMap[Identifier, RowLevelTable]
  private val namespaces = ConcurrentHashMap.newKeySet[Seq[String]]
  private var catalogName = ""

  override def initialize(name: String, options: CaseInsensitiveStringMap): Unit = {
    catalogName = name
    namespaces.add(Seq("default"))
  }
  override def name: String = catalogName
  override def defaultNamespace: Array[String] = Array("default")

  override def listTables(namespace: Array[String]): Array[Identifier] =
    tables.keySet.asScala.filter(_.namespace.sameElements(namespace)).toArray
  override def loadTable(id: Identifier): Table =
    Option(tables.get(id)).getOrElse(throw new NoSuchTableException(id))
  override def createTable(
      id: Identifier, columns: Array[Column], partitions: Array[Transform], properties: util.Map[String, String]): Table = {
    if (!namespaceExists(id.namespace)) throw new NoSuchNamespaceException(id.namespace)
    val table = new RowLevelTable(id.toString, columns)
    if (tables.putIfAbsent(id, table) != null) throw new TableAlreadyExistsException(id)
    table
  }
  override def alterTable(id: Identifier, changes: TableChange*): Table = throw new UnsupportedOperationException
  override def dropTable(id: Identifier): Boolean = tables.remove(id) != null
  override def renameTable(from: Identifier, to: Identifier): Unit = throw new UnsupportedOperationException

  override def listNamespaces: Array[Array[String]] = namespaces.asScala.map(_.toArray).toArray
  override def listNamespaces(namespace: Array[String]): Array[Array[String]] =
    if (namespace.isEmpty) listNamespaces else Array.empty
  override def namespaceExists(namespace: Array[String]): Boolean = namespaces.contains(namespace.toSeq)
  override def loadNamespaceMetadata(namespace: Array[String]): util.Map[String, String] =
    if (namespaceExists(namespace)) util.Map.of() else throw new NoSuchNamespaceException(namespace)
  override def createNamespace(namespace: Array[String], metadata: util.Map[String, String]): Unit =
    if (!namespaces.add(namespace.toSeq)) throw new NamespaceAlreadyExistsException(namespace)
  override def alterNamespace(namespace: Array[String], changes: NamespaceChange*): Unit =
    throw new UnsupportedOperationException
  override def dropNamespace(namespace: Array[String], cascade: Boolean): Boolean = namespaces.remove(namespace.toSeq)
}

/** The rows of one version; a commit puts another object in its place. */
class Version(val rows: Array[Array[InternalRow]])

class RowLevelTable(val name: String, override val columns: Array[Column])
    extends Table with SupportsRead with SupportsWrite with SupportsRowLevelOperations {
  private val rowType = StructType(columns.map(column => StructField(column.name, column.dataType, column.nullable)))
  private[testing] val current = new AtomicReference(new Version(Array.empty))

  override def capabilities: util.Set[TableCapability] =
    util.EnumSet.of(TableCapability.BATCH_READ, TableCapability.BATCH_WRITE)
  override def newScanBuilder(options: CaseInsensitiveStringMap): ScanBuilder = scanOf(current.get)
  override def newWriteBuilder(info: LogicalWriteInfo): WriteBuilder = writing { added =>
    current.updateAndGet(found => new Version(found.rows ++ added))
  }
  override def newRowLevelOperationBuilder(info: RowLevelOperationInfo): RowLevelOperationBuilder = () =>
    new RowLevelOperation {
      private val before = current.get
      override def command: Command = info.command
      override def newScanBuilder(options: CaseInsensitiveStringMap): ScanBuilder = scanOf(before)
      override def newWriteBuilder(writeInfo: LogicalWriteInfo): WriteBuilder = writing { all =>
        if (!current.compareAndSet(before, new Version(all)))
          throw new IllegalStateException(s"conflict on $name: another statement changed the table meanwhile")
      }
    }

  private def scanOf(version: Version): ScanBuilder = () => new RowScan(rowType, version)
  private def writing(commitRows: Array[Array[InternalRow]] => Unit): WriteBuilder = new WriteBuilder {
    override def build: Write = new Write {
      override def toBatch: BatchWrite = new BatchWrite {
        override def createBatchWriterFactory(info: PhysicalWriteInfo): DataWriterFactory = new RowWriterFactory
        override def commit(messages: Array[WriterCommitMessage]): Unit =
          commitRows(messages.collect { case WrittenRows(rows) if rows.nonEmpty => rows })
        override def abort(messages: Array[WriterCommitMessage]): Unit = ()
      }
    }
  }
}

class RowScan(val readSchema: StructType, version: Version) extends Scan with Batch {
  override def toBatch: Batch = this
  override def planInputPartitions: Array[InputPartition] = version.rows.map(RowPartition(_): InputPartition)
  override def createReaderFactory: PartitionReaderFactory = new RowReaderFactory
}

case class RowPartition(rows: Array[InternalRow]) extends InputPartition

class RowReaderFactory extends PartitionReaderFactory {
  override def createReader(partition: InputPartition): PartitionReader[InternalRow] = new PartitionReader[InternalRow] {
    private val rows = partition.asInstanceOf[RowPartition].rows
    private var position = -1
    override def next(): Boolean = { position += 1; position < rows.length }
    override def get(): InternalRow = rows(position)
    override def close(): Unit = ()
  }
}

case class WrittenRows(rows: Array[InternalRow]) extends WriterCommitMessage

class RowWriterFactory extends DataWriterFactory {
  override def createWriter(partitionId: Int, taskId: Long): DataWriter[InternalRow] = new DataWriter[InternalRow] {
    private val rows = Array.newBuilder[InternalRow]
    override def write(row: InternalRow): Unit = rows += row.copy()
    override def commit(): WriterCommitMessage = WrittenRows(rows.result())
    override def abort(): Unit = ()
    override def close(): Unit = ()
  }
}
