// The function app, on Flex Consumption: scales from nothing with the queues, by itself.

param name string
param location string
param identityId string
param identityClientId string
param storageName string
param vaultUrl string

@description('Separated by commas; may be empty.')
param moreVaultUrls string
param insightsConnection string

@description('Empty: no virtual network.')
param subnetId string
param allowedAddresses string[]
param planSchedule string
param driveSchedule string
param logLevel string
param maxInstances int

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: name
  location: location
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
  }
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: name
  location: location
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    // Event Grid delivers over the public address only; the restrictions below let in nobody else.
    publicNetworkAccess: 'Enabled'
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    functionAppConfig: {
      runtime: {
        name: 'python'
        version: '3.13'
      }
      scaleAndConcurrency: {
        instanceMemoryMB: 2048
        maximumInstanceCount: maxInstances
      }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: 'https://${storageName}.blob.${environment().suffixes.storage}/app-package'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      http20Enabled: true
      ftpsState: 'Disabled'
      remoteDebuggingEnabled: false
      ipSecurityRestrictionsDefaultAction: 'Deny'
      scmIpSecurityRestrictionsUseMain: true
      ipSecurityRestrictions: concat(
        [
          {
            name: 'event-grid'
            priority: 100
            action: 'Allow'
            tag: 'ServiceTag'
            ipAddress: 'AzureEventGrid'
          }
        ],
        map(allowedAddresses, (range, index) => {
          name: 'allowed-${index}'
          priority: 200 + index
          action: 'Allow'
          ipAddress: range
        })
      )
    }
  }

  resource settings 'config' = {
    name: 'appsettings'
    properties: {
      ATP_VAULT_URL: vaultUrl
      ATP_MORE_VAULT_URLS: moreVaultUrls
      ATP_PLAN_SCHEDULE: planSchedule
      ATP_DRIVE_SCHEDULE: driveSchedule
      ATP_LOG_LEVEL: logLevel
      ATP_CATALOG: 'rotation/catalog.toml'
      ATP_REDACTION: 'shared/redaction.toml'
      // As many jobs at once as host.json takes messages; Python would run fewer.
      PYTHON_THREADPOOL_THREAD_COUNT: '16'
      // Queues and tables with the app's identity: for the host, and read by shared/settings.py for our own clients.
      AzureWebJobsStorage__credential: 'managedidentity'
      AzureWebJobsStorage__clientId: identityClientId
      AzureWebJobsStorage__blobServiceUri: 'https://${storageName}.blob.${environment().suffixes.storage}'
      AzureWebJobsStorage__queueServiceUri: 'https://${storageName}.queue.${environment().suffixes.storage}'
      AzureWebJobsStorage__tableServiceUri: 'https://${storageName}.table.${environment().suffixes.storage}'
      // For azure-identity in the app: this identity and no other way to a token.
      AZURE_CLIENT_ID: identityClientId
      AZURE_TOKEN_CREDENTIALS: 'ManagedIdentityCredential'
      APPLICATIONINSIGHTS_CONNECTION_STRING: insightsConnection
      APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'Authorization=AAD;ClientId=${identityClientId}'
    }
  }

  resource ftp 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: {
      allow: false
    }
  }

  resource scm 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: {
      allow: false
    }
  }
}

output name string = app.name
