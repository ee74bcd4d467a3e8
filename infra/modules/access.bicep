// Who may do what. The whole of it: no other file assigns a role, except the one that Event Grid gets for its own topic.
//
// The app      rotates: it changes rows of deks, keys, runs, rotations, budgets and alerts, adds rows to the other tables, and
//              reads who uses what, where alerts are sent, and what the vaults hold, by name and date. With the KEKs of the
//              catalog, and no other key, it may make versions, enable and disable them, wrap and unwrap: never delete,
//              purge, import, export, back up or sign. It cannot change or delete an audit record. It reads and writes the
//              secrets of the catalog, and no other secret.
// The audit    signs checkpoints with its one key, appends to the evidence copy, reads the audit trail and adds rows to it, to
// app          checkpoints. It cannot change or delete a row or a file, but for the rows of alerts, which it may change, and
//              can do nothing with a KEK or a DEK.
//              The main app in turn can neither sign nor reach the evidence, so that it takes both to forge a history.
// Services     read wrapped DEKs and have the vault open them; they report which versions they use.
// Operators    read every table and what the vaults hold, without any value, ask by queue message, resolve alerts and dead
//              letters. They cannot change a key's row, and neither wrap nor unwrap.
// Auditors     read the audit trail, its checkpoints, the evidence copy, and the public half of the key that signs.

param storageName string
param vaults string[]
param insightsName string
param keks string[]
param secrets string[]
param appPrincipalId string
param services string[]
param operators string[]

param evidenceStorageName string
param evidenceContainerName string
param auditHostStorageName string
param signingKeyName string

@description('Names of the secrets in the first vault that say where alerts are sent.')
param alertSecrets string[]
param auditPrincipalId string
param auditors string[]

// https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
var roles = {
  blobReader: '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1' // Storage Blob Data Reader
  blobOwner: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b' // Storage Blob Data Owner
  queueContributor: '974c5e8b-45b9-4653-ba55-5f855dd0fb88' // Storage Queue Data Contributor
  queueSender: 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a' // Storage Queue Data Message Sender
  tableContributor: '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3' // Storage Table Data Contributor
  tableReader: '76199698-9eea-4c19-bc75-cec21354c6b6' // Storage Table Data Reader
  keyReader: '21090545-7ca7-4776-b22c-e363652d74d2' // Key Vault Reader
  keyWrapper: 'e147488a-f6f5-4113-8e2d-b22465e65bf6' // Key Vault Crypto Service Encryption User
  secretsUser: '4633458b-17de-408a-b874-0445c86b69e6' // Key Vault Secrets User
  metricsPublisher: '3913510d-42f4-4e42-8a64-420c390055eb' // Monitoring Metrics Publisher
}
var insertOnlyTables = ['audit', 'deadletters']
var noDeleteTables = ['keys', 'runs', 'rotations', 'budgets', 'alerts']
// What the audit app adds rows to, and what auditors read.
var auditAppTables = ['audit', 'checkpoints']
var auditedTables = ['audit', 'checkpoints']
// What operators ask by, and send dead letters to again.
var askedQueues = ['rotation-jobs', 'plan-shards', 'kek-orders', 'rewrap-batches', 'secret-jobs']

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' existing = {
  name: storageName
}

resource tableService 'Microsoft.Storage/storageAccounts/tableServices@2023-05-01' existing = {
  parent: account
  name: 'default'
}

resource deks 'Microsoft.Storage/storageAccounts/tableServices/tables@2023-05-01' existing = {
  parent: tableService
  name: 'deks'
}

resource consumers 'Microsoft.Storage/storageAccounts/tableServices/tables@2023-05-01' existing = {
  parent: tableService
  name: 'consumers'
}

resource alerts 'Microsoft.Storage/storageAccounts/tableServices/tables@2023-05-01' existing = {
  parent: tableService
  name: 'alerts'
}

resource deadLetters 'Microsoft.Storage/storageAccounts/tableServices/tables@2023-05-01' existing = {
  parent: tableService
  name: 'deadletters'
}

resource insertOnly 'Microsoft.Storage/storageAccounts/tableServices/tables@2023-05-01' existing = [
  for table in insertOnlyTables: {
    parent: tableService
    name: table
  }
]

resource noDelete 'Microsoft.Storage/storageAccounts/tableServices/tables@2023-05-01' existing = [
  for table in noDeleteTables: {
    parent: tableService
    name: table
  }
]

resource auditAppTable 'Microsoft.Storage/storageAccounts/tableServices/tables@2023-05-01' existing = [
  for table in auditAppTables: {
    parent: tableService
    name: table
  }
]

resource audited 'Microsoft.Storage/storageAccounts/tableServices/tables@2023-05-01' existing = [
  for table in auditedTables: {
    parent: tableService
    name: table
  }
]

resource evidenceAccount 'Microsoft.Storage/storageAccounts@2023-05-01' existing = {
  name: evidenceStorageName
}

resource evidenceService 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' existing = {
  parent: evidenceAccount
  name: 'default'
}

resource evidence 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' existing = {
  parent: evidenceService
  name: evidenceContainerName
}

resource auditHost 'Microsoft.Storage/storageAccounts@2023-05-01' existing = {
  name: auditHostStorageName
}

resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2023-05-01' existing = {
  parent: account
  name: 'default'
}

resource asked 'Microsoft.Storage/storageAccounts/queueServices/queues@2023-05-01' existing = [
  for queue in askedQueues: {
    parent: queueService
    name: queue
  }
]

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' existing = [
  for name in vaults: {
    name: name
  }
]

// Every KEK in every vault. The narrowest scope of Key Vault's RBAC is one key with all its versions: a role can neither be
// kept to one version, nor let somebody disable versions and not change their expiry.
// https://learn.microsoft.com/azure/key-vault/general/rbac-guide
resource kek 'Microsoft.KeyVault/vaults/keys@2023-07-01' existing = [
  for number in range(0, length(vaults) * length(keks)): {
    parent: vault[number / length(keks)]
    name: keks[number % length(keks)]
  }
]

// Each secret that the app rotates, and beside it the one in which a new value waits.
resource rotated 'Microsoft.KeyVault/vaults/secrets@2023-07-01' existing = [
  for number in range(0, 2 * length(secrets)): {
    parent: vault[0]
    name: '${secrets[number / 2]}${number % 2 == 0 ? '' : '-pending'}'
  }
]

resource signingKey 'Microsoft.KeyVault/vaults/keys@2023-07-01' existing = {
  parent: vault[0]
  name: signingKeyName
}

resource alertSecret 'Microsoft.KeyVault/vaults/secrets@2023-07-01' existing = [
  for name in alertSecrets: {
    parent: vault[0]
    name: name
  }
]

resource inserter 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  // No built-in role may insert into a table without being allowed to change and delete there too.
  // https://learn.microsoft.com/rest/api/storageservices/authorize-with-azure-active-directory: Insert Entity.
  name: guid(resourceGroup().id, 'table-inserter')
  properties: {
    roleName: 'ATP Table Inserter (${storageName})'
    description: 'Read and insert table rows; never change or delete one.'
    type: 'CustomRole'
    assignableScopes: [resourceGroup().id]
    permissions: [
      {
        actions: []
        notActions: []
        dataActions: [
          'Microsoft.Storage/storageAccounts/tableServices/tables/entities/read'
          'Microsoft.Storage/storageAccounts/tableServices/tables/entities/add/action'
        ]
        notDataActions: []
      }
    ]
  }
}

resource editor 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  // Where a KEK rotation stands and what it began with must not vanish, nor what people were alerted of.
  name: guid(resourceGroup().id, 'table-editor')
  properties: {
    roleName: 'ATP Table Editor (${storageName})'
    description: 'Read, insert and change table rows; never delete one.'
    type: 'CustomRole'
    assignableScopes: [resourceGroup().id]
    permissions: [
      {
        actions: []
        notActions: []
        dataActions: [
          'Microsoft.Storage/storageAccounts/tableServices/tables/entities/read'
          'Microsoft.Storage/storageAccounts/tableServices/tables/entities/add/action'
          'Microsoft.Storage/storageAccounts/tableServices/tables/entities/update/action'
        ]
        notDataActions: []
      }
    ]
  }
}

resource rotator 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  // Of the built-in roles only Crypto Officer may make a key's versions, and it may delete and purge besides.
  name: guid(resourceGroup().id, 'kek-rotator')
  properties: {
    roleName: 'ATP KEK Rotator (${storageName})'
    description: 'Read a key and list its versions, make one, enable or disable one, wrap and unwrap with it.'
    type: 'CustomRole'
    assignableScopes: [resourceGroup().id]
    permissions: [
      {
        actions: []
        notActions: []
        dataActions: [
          'Microsoft.KeyVault/vaults/keys/read'
          'Microsoft.KeyVault/vaults/keys/create/action'
          'Microsoft.KeyVault/vaults/keys/update/action'
          'Microsoft.KeyVault/vaults/keys/wrap/action'
          'Microsoft.KeyVault/vaults/keys/unwrap/action'
        ]
        notDataActions: []
      }
    ]
  }
}

resource secretRotator 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  // Of the built-in roles only Secrets Officer may write a secret, and it may delete and purge besides.
  name: guid(resourceGroup().id, 'secret-rotator')
  properties: {
    roleName: 'ATP Secret Rotator (${storageName})'
    description: 'Read a secret and its versions, make one, enable or disable one.'
    type: 'CustomRole'
    assignableScopes: [resourceGroup().id]
    permissions: [
      {
        actions: []
        notActions: []
        dataActions: [
          'Microsoft.KeyVault/vaults/secrets/readMetadata/action'
          'Microsoft.KeyVault/vaults/secrets/getSecret/action'
          'Microsoft.KeyVault/vaults/secrets/setSecret/action'
          'Microsoft.KeyVault/vaults/secrets/update/action'
        ]
        notDataActions: []
      }
    ]
  }
}

resource signer 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  // Every built-in role that may sign may encrypt, wrap and change the key besides.
  name: guid(resourceGroup().id, 'checkpoint-signer')
  properties: {
    roleName: 'ATP Checkpoint Signer (${storageName})'
    description: 'Read a key and sign with it.'
    type: 'CustomRole'
    assignableScopes: [resourceGroup().id]
    permissions: [
      {
        actions: []
        notActions: []
        dataActions: [
          'Microsoft.KeyVault/vaults/keys/read'
          'Microsoft.KeyVault/vaults/keys/sign/action'
        ]
        notDataActions: []
      }
    ]
  }
}

resource appender 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  // Without `write` a blob can be created and appended to and not be overwritten.
  // https://learn.microsoft.com/rest/api/storageservices/authorize-with-azure-active-directory: Put Blob, Append Block.
  name: guid(resourceGroup().id, 'evidence-appender')
  properties: {
    roleName: 'ATP Evidence Appender (${storageName})'
    description: 'Read and create blobs and append to them; never overwrite or delete one.'
    type: 'CustomRole'
    assignableScopes: [resourceGroup().id]
    permissions: [
      {
        actions: []
        notActions: []
        dataActions: [
          'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read'
          'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/add/action'
        ]
        notDataActions: []
      }
    ]
  }
}

// The app

resource appOnBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  // The host's own: its package, its locks, its keys.
  name: guid(account.id, appPrincipalId, roles.blobOwner)
  scope: account
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.blobOwner)
  }
}

resource appOnQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  // Receives, renews, deletes and sends, on each of the account's queues.
  name: guid(account.id, appPrincipalId, roles.queueContributor)
  scope: account
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.queueContributor)
  }
}

resource appOnDeks 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(deks.id, appPrincipalId, roles.tableContributor)
  scope: deks
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.tableContributor)
  }
}

resource appInserts 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (table, index) in insertOnlyTables: {
    name: guid(insertOnly[index].id, appPrincipalId, inserter.id)
    scope: insertOnly[index]
    properties: {
      principalId: appPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: inserter.id
    }
  }
]

resource appEdits 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (table, index) in noDeleteTables: {
    name: guid(noDelete[index].id, appPrincipalId, editor.id)
    scope: noDelete[index]
    properties: {
      principalId: appPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: editor.id
    }
  }
]

resource appOnConsumers 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  // Whether a KEK version is still used, before it is disabled.
  name: guid(consumers.id, appPrincipalId, roles.tableReader)
  scope: consumers
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.tableReader)
  }
}

resource appOnCheckpoints 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  // Where to begin to look for what was begun and has no outcome.
  name: guid(audited[1].id, appPrincipalId, roles.tableReader)
  scope: audited[1]
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.tableReader)
  }
}

resource appOnKeks 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for number in range(0, length(vaults) * length(keks)): {
    name: guid(kek[number].id, appPrincipalId, rotator.id)
    scope: kek[number]
    properties: {
      principalId: appPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: rotator.id
    }
  }
]

resource appOnSecrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for number in range(0, 2 * length(secrets)): {
    name: guid(rotated[number].id, appPrincipalId, secretRotator.id)
    scope: rotated[number]
    properties: {
      principalId: appPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: secretRotator.id
    }
  }
]

resource appOnInsights 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(insights.id, appPrincipalId, roles.metricsPublisher)
  scope: insights
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.metricsPublisher)
  }
}

resource appOnAlertSecrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (name, index) in alertSecrets: {
    name: guid(alertSecret[index].id, appPrincipalId, roles.secretsUser)
    scope: alertSecret[index]
    properties: {
      principalId: appPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.secretsUser)
    }
  }
]

// The audit app

resource auditAppOnItsHost 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  // The host's own: its package, its locks, its keys. There is nothing else in that account.
  name: guid(auditHost.id, auditPrincipalId, roles.blobOwner)
  scope: auditHost
  properties: {
    principalId: auditPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.blobOwner)
  }
}

resource auditAppInserts 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (table, index) in auditAppTables: {
    name: guid(auditAppTable[index].id, auditPrincipalId, inserter.id)
    scope: auditAppTable[index]
    properties: {
      principalId: auditPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: inserter.id
    }
  }
]

resource auditAppOnAlerts 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  // An alert that is raised again after it was resolved is the same row.
  name: guid(alerts.id, auditPrincipalId, editor.id)
  scope: alerts
  properties: {
    principalId: auditPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: editor.id
  }
}

resource auditAppSigns 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(signingKey.id, auditPrincipalId, signer.id)
  scope: signingKey
  properties: {
    principalId: auditPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: signer.id
  }
}

resource auditAppAppends 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(evidence.id, auditPrincipalId, appender.id)
  scope: evidence
  properties: {
    principalId: auditPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: appender.id
  }
}

resource auditAppOnInsights 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(insights.id, auditPrincipalId, roles.metricsPublisher)
  scope: insights
  properties: {
    principalId: auditPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.metricsPublisher)
  }
}

// Services

resource serviceOnDeks 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for service in services: {
    name: guid(deks.id, service, roles.tableReader)
    scope: deks
    properties: {
      principalId: service
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.tableReader)
    }
  }
]

resource serviceOnConsumers 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for service in services: {
    name: guid(consumers.id, service, roles.tableContributor)
    scope: consumers
    properties: {
      principalId: service
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.tableContributor)
    }
  }
]

// Every service on every KEK. Crypto User would do, and allow to sign, to decrypt and to change the key besides.
resource serviceOnKeks 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for number in range(0, length(services) * length(vaults) * length(keks)): {
    name: guid(
      kek[number % (length(vaults) * length(keks))].id,
      services[number / (length(vaults) * length(keks))],
      roles.keyWrapper
    )
    scope: kek[number % (length(vaults) * length(keks))]
    properties: {
      principalId: services[number / (length(vaults) * length(keks))]
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.keyWrapper)
    }
  }
]

// Operators

resource operatorOnTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for operator in operators: {
    name: guid(account.id, operator, roles.tableReader)
    scope: account
    properties: {
      principalId: operator
      principalType: 'Group'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.tableReader)
    }
  }
]

resource operatorOnAlerts 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for operator in operators: {
    name: guid(alerts.id, operator, editor.id)
    scope: alerts
    properties: {
      principalId: operator
      principalType: 'Group'
      roleDefinitionId: editor.id
    }
  }
]

resource operatorOnDeadLetters 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for operator in operators: {
    name: guid(deadLetters.id, operator, roles.tableContributor)
    scope: deadLetters
    properties: {
      principalId: operator
      principalType: 'Group'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.tableContributor)
    }
  }
]

resource operatorOnQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for number in range(0, length(operators) * length(askedQueues)): {
    name: guid(asked[number % length(askedQueues)].id, operators[number / length(askedQueues)], roles.queueSender)
    scope: asked[number % length(askedQueues)]
    properties: {
      principalId: operators[number / length(askedQueues)]
      principalType: 'Group'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.queueSender)
    }
  }
]

// For `plan kek`, `kek status`, `inventory`, `calendar` and to look at `policies`: what the vaults hold, without any value.
// What is in the vaults and when it expires, for the daily scan and for events; no value, and no key can be used by it.
// https://learn.microsoft.com/azure/role-based-access-control/built-in-roles/security#key-vault-reader
resource appOnVaults 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for index in range(0, length(vaults)): {
    name: guid(vault[index].id, appPrincipalId, roles.keyReader)
    scope: vault[index]
    properties: {
      principalId: appPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.keyReader)
    }
  }
]

resource operatorOnVaults 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for number in range(0, length(operators) * length(vaults)): {
    name: guid(vault[number % length(vaults)].id, operators[number / length(vaults)], roles.keyReader)
    scope: vault[number % length(vaults)]
    properties: {
      principalId: operators[number / length(vaults)]
      principalType: 'Group'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.keyReader)
    }
  }
]

// Auditors

resource auditorOnTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for number in range(0, length(auditors) * length(auditedTables)): {
    name: guid(audited[number % length(auditedTables)].id, auditors[number / length(auditedTables)], roles.tableReader)
    scope: audited[number % length(auditedTables)]
    properties: {
      principalId: auditors[number / length(auditedTables)]
      principalType: 'Group'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.tableReader)
    }
  }
]

resource auditorOnEvidence 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for auditor in auditors: {
    name: guid(evidence.id, auditor, roles.blobReader)
    scope: evidence
    properties: {
      principalId: auditor
      principalType: 'Group'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.blobReader)
    }
  }
]

resource auditorOnSigningKey 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for auditor in auditors: {
    name: guid(signingKey.id, auditor, roles.keyReader)
    scope: signingKey
    properties: {
      principalId: auditor
      principalType: 'Group'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.keyReader)
    }
  }
]
